-- in every hour the queues and what is unattributed add up to exactly the account's total; and so, on days for which one is held,
-- do the apps (the IPs)
-- severity: blocking
-- remedy: sums over queues (or apps, or IPs) are not the account's money in these hours. anticaptcha-etl replay rebuilds them
-- from the stored responses
with parts as (
    select f.account_id, s.dimension, f.day, f.hour_start, f.volume, f.money
    from internal.facts f
    join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id
    where f.account_id in :accounts
      and f.day >= :since
),
divided as (
    select distinct account_id, case dimension when 'total' then 'queue' else dimension end as dimension, day
    from parts
),
sided as (
    select account_id, dimension, day, hour_start, -volume as volume, -money as money
    from parts
    where dimension <> 'total'
    union all
    select p.account_id, d.dimension, p.day, p.hour_start, p.volume, p.money
    from parts p
    join divided d on d.account_id = p.account_id and d.day = p.day
    where p.dimension = 'total'
),
unequal as (
    select account_id, dimension, day, hour_start, sum(volume) as volume, sum(money) as money
    from sided
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
