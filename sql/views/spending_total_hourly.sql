-- one row per account and hour that was read, including hours without spend: a complete series of hours to join on
--
-- account: the account's name
-- hour_start: first second of the hour, UTC
-- hour_end: exclusive end of the hour, UTC
-- volume: tasks over all queues, as reported by the API
-- money: US dollars over all queues, as reported by the API
-- is_final: true if the hour's day was read after its lookback had passed; otherwise it may still change
-- day: UTC day that the hour counts towards
create view spending_total_hourly as
select
    a.name                              as account,
    f.hour_start                        as hour_start,
    f.hour_start + interval '1 hour'    as hour_end,
    f.volume                            as volume,
    f.money                             as money,
    coalesce(d.status = 'final', false) as is_final,
    f.day                               as day
from internal.facts f
join internal.series s            on s.account_id = f.account_id and s.series_id = f.series_id
join internal.accounts a          on a.account_id = f.account_id
left join internal.day_coverage d on d.account_id = f.account_id and d.day = f.day
where s.dimension = 'total';
