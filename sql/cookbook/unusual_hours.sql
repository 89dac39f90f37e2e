-- one row per account and hour of the last 8 weeks with far more or far less spend than usual at that hour of the day
--
-- Usual is the median. Hours are listed if they differ from it by more than six times the median difference, which extreme hours do
-- not affect; for a normal distribution that is about four standard deviations. Hours of the day whose spend is mostly the same (or
-- zero) have a median difference of zero and are left out.
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
