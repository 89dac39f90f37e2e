-- one row per record the API gave that was refused and is counted nowhere
--
-- account: the account's name
-- queue: queue name; (total): the account's total; null: asked by app or by ip
-- day: the UTC day that was asked for
-- reason: why it was refused
-- raw: the record as it came
-- seen_at: when the refusal was committed, UTC
-- hour_start: first second of the record's hour, UTC; null when even that could not be read
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
