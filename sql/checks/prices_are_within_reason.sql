-- on the last closed days, the price per 1000 tasks of each queue is between a tenth and ten times its usual price
-- severity: warning
-- remedy: the numbers are what the API returned, and this is reported once. Compare price_per_1000 in spending_daily with the
-- price list of Anti-Captcha; a tenfold price usually means a changed unit or a reused queue name

-- The usual price is the median of the 60 days before the last 7, over at least 14 days with at least 1000 tasks each.
with closed as (
    select *
    from internal.closed_days
    where account_id in :accounts
),
last_closed as (
    select account_id, max(day) as day
    from closed
    group by account_id
),
daily as (
    select
        f.account_id                                                                        as account_id,
        f.series_id                                                                         as series_id,
        f.day                                                                               as day,
        f.day > l.day - 7                                                                   as is_new,
        price_per_1000(cast(sum(f.money) as decimal(18, 9)), cast(sum(f.volume) as bigint)) as price,
        max(f.snapshot_id)                                                                  as snapshot_id
    from internal.facts f
    join last_closed l     on l.account_id = f.account_id and f.day between l.day - 66 and l.day
    join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id
    where f.account_id in :accounts
      and f.day >= :since - 90
      and s.dimension = 'queue'
      and s.member is not null
      and f.money >= 0
    group by f.account_id, f.series_id, f.day, l.day
    having sum(f.volume) >= 1000
),
usual as (
    select account_id, series_id, percentile_disc(0.5) within group (order by price) as price
    from daily
    where not is_new
    group by account_id, series_id
    having count(*) >= 14
)
select
    a.name       as account,
    min(d.day)   as day,
    s.member     as queue,
    min(u.price) as usual_price,
    min(d.price) as lowest_price,
    max(d.price) as highest_price
from daily d
join usual u              on u.account_id = d.account_id and u.series_id = d.series_id
join internal.snapshots r on r.account_id = d.account_id and r.snapshot_id = d.snapshot_id
join closed c             on c.account_id = d.account_id and c.day = d.day
join internal.series s    on s.account_id = d.account_id and s.series_id = d.series_id
join internal.accounts a  on a.account_id = d.account_id
where d.is_new
  and u.price > 0
  and (d.price > 10 * u.price or 10 * d.price < u.price)
group by a.name, s.member
having min(greatest(r.run, c.closed_by) - c.reported_by_run) > 0
order by min(d.day) desc;
