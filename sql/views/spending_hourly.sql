-- one row per account, queue and hour with spend
--
-- account: the account's name
-- queue: queue name; (unattributed): part of the account's total that no verified queue explains
-- hour_start: first second of the hour, UTC
-- hour_end: exclusive end of the hour, UTC
-- volume: tasks; sums over all queues are exactly the account's latest total
-- money: US dollars, exact; sums over all queues are exactly the account's latest total
-- currency: always USD
-- is_final: true if the hour's day was read after its lookback had passed; otherwise it may still change
-- loaded_at: commit time of this value, UTC
-- day: UTC day that the hour counts towards
create view spending_hourly as
select
    a.name                               as account,
    coalesce(s.member, '(unattributed)') as queue,
    f.hour_start                         as hour_start,
    f.hour_start + interval '1 hour'     as hour_end,
    f.volume                             as volume,
    f.money                              as money,
    'USD'                                as currency,
    coalesce(d.status = 'final', false)  as is_final,
    f.loaded_at                          as loaded_at,
    f.day                                as day
from internal.facts f
join internal.series s            on s.account_id = f.account_id and s.series_id = f.series_id
join internal.accounts a          on a.account_id = f.account_id
left join internal.day_coverage d on d.account_id = f.account_id and d.day = f.day
where s.dimension = 'queue'
  and (f.volume <> 0 or f.money <> 0);
