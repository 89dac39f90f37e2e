-- a queue's price per 1000 tasks is within ten times and a tenth of its usual one, on the last closed days
-- severity: warning
-- remedy: the numbers are as the API gave them, and this is told once. Compare price_per_1000 of spending_daily with the service's
-- price list; a tenfold price is more often a changed unit or another queue under the old name than a price

-- Usual is the median of the sixty days before the last seven, of at least 14 days with at least 1000 tasks.
with newest as (
    select account_id, max(run) as run
    from runs
    where command = 'sync'
    group by account_id
),
seen as (
    select n.account_id, coalesce(max(r.run), 0) as run
    from newest n
    left join runs r
      on r.account_id = n.account_id and r.command = 'sync' and r.run < n.run and r.ended_at is not null and r.exit_code <> 130
    group by n.account_id
),
last_closed as (
    select account_id, max(day) as day
    from days
    where closed
    group by account_id
),
daily as (
    select
        f.account_id                                       as account_id,
        f.series_id                                        as series_id,
        f.day                                              as day,
        f.day > l.day - 7                                  as is_new,
        price_per_1000(cast(sum(f.money) as decimal(18, 9)), cast(sum(f.volume) as bigint)) as price,
        max(f.reading)                                     as reading
    from facts f
    join last_closed l on l.account_id = f.account_id and f.day between l.day - 66 and l.day
    join series s      on s.account_id = f.account_id and s.series_id = f.series_id
    where s.cut = 'queue'
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
join usual u    on u.account_id = d.account_id and u.series_id = d.series_id
join readings r on r.account_id = d.account_id and r.reading = d.reading
join seen e     on e.account_id = d.account_id
join series s   on s.account_id = d.account_id and s.series_id = d.series_id
join accounts a on a.account_id = d.account_id
where d.is_new
  and u.price > 0
  and (d.price > 10 * u.price or 10 * d.price < u.price)
group by a.name, s.member
having min(r.run - e.run) > 0
order by min(d.day) desc;
