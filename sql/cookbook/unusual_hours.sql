-- one row per account and hour of the last 8 weeks that cost far more, or far less, than that hour of the day usually does
--
-- Usual is the median; the yardstick is the median distance from it, which runaway hours cannot stretch. Six times that is about
-- four standard deviations of a bell curve. An hour of the day that mostly costs the same, or nothing, has no yardstick: left out.
with newest as (
    select account, max(hour_start) as hour_start
    from spending_total_hourly
    group by account
),
recent as (
    select
        t.account                       as account,
        t.hour_start                    as hour_start,
        extract(hour from t.hour_start) as hour,
        t.volume                        as volume,
        t.money                         as money
    from spending_total_hourly t
    join newest n on n.account = t.account
    where t.hour_start >= n.hour_start - interval '56 days'
      and t.hour_start < n.hour_start
),
usual as (
    select account, hour, percentile_disc(0.5) within group (order by money) as money
    from recent
    group by account, hour
),
distances as (
    select r.account, r.hour, percentile_disc(0.5) within group (order by abs(r.money - u.money)) as money
    from recent r
    join usual u on u.account = r.account and u.hour = r.hour
    group by r.account, r.hour
)
select
    r.account                                                       as account,
    r.hour_start                                                    as hour_start,
    r.volume                                                        as volume,
    r.money                                                         as money,
    u.money                                                         as usual_money,
    d.money                                                         as usual_distance,
    cast(round((r.money - u.money) / d.money, 1) as decimal(18, 1)) as distances
from recent r
join usual u     on u.account = r.account and u.hour = r.hour
join distances d on d.account = r.account and d.hour = r.hour
where d.money > 0
  and abs(r.money - u.money) > 6 * d.money
order by account, hour_start desc;
