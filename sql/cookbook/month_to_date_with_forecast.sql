-- one row per account: spend of its newest month so far, and a forecast for the whole month with a range
--
-- Each coming day counts as the median of its weekday in the 13 weeks before. If six of the last 7 days were all above or all below
-- theirs, it is multiplied by their median ratio: a lasting change counts after six days, and a single day never. low and high use
-- the 10 % and 90 % quantiles of every day at once, so the range is rather too wide. The forecast assumes that all days were read
-- and that no holidays come. The newest day is still running: its spend so far is the minimum. Rounded to cents; null if a weekday
-- that is still to come has no data.
with read_days as (
    select
        account,
        day,
        money,
        max(day) over (partition by account)                                              as today,
        min(case when volume <> 0 or money <> 0 then day end) over (partition by account) as begins
    from coverage_daily
    where fetched_at is not null
),
usual as (
    select
        account,
        extract(isodow from day)                           as weekday,
        percentile_disc(0.1) within group (order by money) as low,
        percentile_disc(0.5) within group (order by money) as middle,
        percentile_disc(0.9) within group (order by money) as high
    from read_days
    where day >= greatest(begins, today - 91)
      and day < today
    group by 1, 2
),
level as (
    select
        d.account,
        percentile_disc(0.5) within group (order by cast(d.money / u.middle as decimal(18, 9))) as level
    from read_days d
    join usual u on u.account = d.account and u.weekday = extract(isodow from d.day)
    where d.day >= d.today - 7
      and d.day < d.today
      and u.middle > 0
    group by d.account
    having count(case when d.money > u.middle then 1 end) >= 6 or count(case when d.money < u.middle then 1 end) >= 6
),
ahead as (
    select
        account,
        today + cast(n as integer) as day
    from read_days
    cross join generate_series(0, 30) as later(n)
    where day = today
      and today + cast(n as integer) < cast(date_trunc('month', cast(today as timestamp)) + interval '1 month' as date)
),
expected as (
    select
        a.account                                                                  as account,
        count(*) = count(u.middle)                                                 as is_known,
        sum(greatest(u.low * coalesce(l.level, 1) - coalesce(h.money, 0), 0))    as low,
        sum(greatest(u.middle * coalesce(l.level, 1) - coalesce(h.money, 0), 0)) as middle,
        sum(greatest(u.high * coalesce(l.level, 1) - coalesce(h.money, 0), 0))   as high
    from ahead a
    left join usual u     on u.account = a.account and u.weekday = extract(isodow from a.day)
    left join level l     on l.account = a.account
    left join read_days h on h.account = a.account and h.day = a.day
    group by a.account
),
so_far as (
    select
        account,
        cast(date_trunc('month', cast(today as timestamp)) as date) as month,
        max(today)                                                  as newest_day,
        cast(sum(money) as decimal(18, 9))                          as money
    from read_days
    where day >= cast(date_trunc('month', cast(today as timestamp)) as date)
    group by 1, 2
)
select
    s.account                                                                          as account,
    s.month                                                                            as month,
    s.newest_day                                                                       as newest_day,
    s.money                                                                            as money_so_far,
    case when e.is_known then cast(round(s.money + e.low, 2) as decimal(18, 2)) end    as forecast_low,
    case when e.is_known then cast(round(s.money + e.middle, 2) as decimal(18, 2)) end as forecast,
    case when e.is_known then cast(round(s.money + e.high, 2) as decimal(18, 2)) end   as forecast_high
from so_far s
join expected e on e.account = s.account
order by account;
