-- in every hour, queues and the unattributed amount add up to exactly the account's total; on days with data for apps (or IPs),
-- so do these
-- severity: blocking
-- remedy: in these hours sums over queues (or apps, or IPs) differ from the account's money. anticaptcha-etl replay rebuilds them
-- from the stored responses
with parts as (
    select f.account_id, s.dimension, f.day, f.hour_start, f.volume, f.money
    from internal.facts f
    join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id
    where f.account_id in :accounts
      and f.day >= :since
),
breakdowns as (
    select distinct account_id, case dimension when 'total' then 'queue' else dimension end as dimension, day
    from parts
),
differences as (
    select account_id, dimension, day, hour_start, -volume as volume, -money as money
    from parts
    where dimension <> 'total'
    union all
    select p.account_id, d.dimension, p.day, p.hour_start, p.volume, p.money
    from parts p
    join breakdowns d on d.account_id = p.account_id and d.day = p.day
    where p.dimension = 'total'
),
unequal as (
    select account_id, dimension, day, hour_start, sum(volume) as volume, sum(money) as money
    from differences
    group by account_id, dimension, day, hour_start
    having sum(volume) <> 0 or sum(money) <> 0
)
select
    a.name        as account,
    u.day         as day,
    u.dimension   as cut,
    count(*)      as hours,
    sum(u.volume) as volume_short,
    sum(u.money)  as money_short
from unequal u
join internal.accounts a on a.account_id = u.account_id
group by a.name, u.day, u.dimension
order by u.day desc;
