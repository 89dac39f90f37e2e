-- one row per account and UTC month: the 24 consecutive hours with the highest spend
--
-- Sums by day hide a peak around midnight. Only periods with all 24 hours read are compared; each belongs to the month it
-- starts in.
with periods as (
    select
        account,
        hour_start,
        count(*) over w                           as hours,
        cast(sum(volume) over w as bigint)        as volume,
        cast(sum(money) over w as decimal(18, 9)) as money
    from spending_total_hourly
    window w as (partition by account order by hour_start range between current row and interval '23 hours' following)
),
ranked as (
    select
        account,
        cast(date_trunc('month', hour_start) as date) as month,
        hour_start,
        volume,
        money,
        row_number() over (
            partition by account, date_trunc('month', hour_start)
            order by money desc, hour_start
        ) as place
    from periods
    where hours = 24
      and money > 0
)
select
    account,
    month,
    hour_start                       as busy_from,
    hour_start + interval '24 hours' as busy_until,
    volume,
    money
from ranked
where place = 1
order by account, month desc;
