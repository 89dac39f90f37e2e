-- one row per correction: the API changed the value of an hour that had already ended when it was read before
--
-- account: the account's name
-- queue: queue name; (unattributed): part of the total that no verified queue explains; (total): the account's total, which must
-- not be added to its queues
-- hour_start: first second of the corrected hour, UTC
-- volume_before: tasks, as read before
-- money_before: US dollars, as read before
-- volume_after: tasks, as corrected
-- money_after: US dollars, as corrected
-- seen_at: when the correction was committed, UTC
-- day: UTC day that the hour counts towards
create view spending_revisions as
select
    a.name                                                                                     as account,
    case s.dimension when 'total' then '(total)' else coalesce(s.member, '(unattributed)') end as queue,
    r.hour_start                                                                               as hour_start,
    r.volume_before                                                                            as volume_before,
    r.money_before                                                                             as money_before,
    r.volume_after                                                                             as volume_after,
    r.money_after                                                                              as money_after,
    r.seen_at                                                                                  as seen_at,
    r.day                                                                                      as day
from internal.revisions r
join internal.series s   on s.account_id = r.account_id and s.series_id = r.series_id
join internal.accounts a on a.account_id = r.account_id
where r.cause = 'correction'
  and s.dimension in ('total', 'queue');
