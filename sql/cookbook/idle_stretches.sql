-- one row per account and period of consecutive hours without spend: the ten longest since the first spend
--
-- Only hours that were read count: an hour that was not read ends a period, because its spend is unknown.
with begins as (
    select account, min(hour_start) as hour_start
    from spending_total_hourly
    where volume <> 0 or money <> 0
    group by account
),
idle as (
    select
        t.account                                                                                           as account,
        t.hour_start                                                                                        as hour_start,
        t.hour_end                                                                                          as hour_end,
        t.hour_start - row_number() over (partition by t.account order by t.hour_start) * interval '1 hour' as period
    from spending_total_hourly t
    join begins b on b.account = t.account
    where t.hour_start > b.hour_start
      and t.volume = 0
      and t.money = 0
),
periods as (
    select
        account,
        min(hour_start)                                                                       as idle_from,
        max(hour_end)                                                                         as idle_until,
        count(*)                                                                              as hours,
        row_number() over (partition by account order by count(*) desc, min(hour_start) desc) as place
    from idle
    group by account, period
)
select
    account,
    idle_from,
    idle_until,
    hours
from periods
where place <= 10
order by account, hours desc, idle_from desc;
