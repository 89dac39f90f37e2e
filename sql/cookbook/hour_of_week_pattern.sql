-- one row per account, weekday (1 is Monday) and hour in UTC: spend in this hour of the week over the last 8 weeks
--
-- Includes idle hours that were read. The median is not affected by a single extreme hour; of an even number of hours it is the
-- lower of the middle two, so that it is a value that occurred. The newest hour is left out because it may still be running.
with newest as (
    select account, max(hour_start) as hour_start
    from spending_total_hourly
    group by account
)
select
    t.account                                            as account,
    cast(extract(isodow from t.hour_start) as integer)   as weekday,
    cast(extract(hour from t.hour_start) as integer)     as hour,
    count(*)                                             as hours,
    cast(sum(t.volume) as bigint)                        as volume,
    cast(sum(t.money) as decimal(18, 9))                 as money,
    percentile_disc(0.5) within group (order by t.money) as median_money
from spending_total_hourly t
join newest n on n.account = t.account
where t.hour_start >= n.hour_start - interval '56 days'
  and t.hour_start < n.hour_start
group by 1, 2, 3
order by account, weekday, hour;
