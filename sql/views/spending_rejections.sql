-- one row per rejected record of an API response; it is part of no sum
--
-- account: the account's name
-- queue: queue name; (total): the account's total; null: requested for an app or an IP
-- day: requested UTC day
-- reason: why the record was rejected
-- raw: the record as received
-- seen_at: when the rejection was committed, UTC
-- hour_start: first second of the record's hour, UTC; null if it could not be read
create view spending_rejections as
select
    a.name                                                                      as account,
    case s.dimension when 'total' then '(total)' when 'queue' then s.member end as queue,
    r.day                                                                       as day,
    r.reason                                                                    as reason,
    r.raw                                                                       as raw,
    r.seen_at                                                                   as seen_at,
    r.hour_start                                                                as hour_start
from internal.rejections r
join internal.series s   on s.account_id = r.account_id and s.series_id = r.series_id
join internal.accounts a on a.account_id = r.account_id;
