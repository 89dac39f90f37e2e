-- in every hour, queues and the unattributed amount add up to exactly the account's total; on days with data for apps (or IPs),
-- so do these
-- severity: blocking
-- remedy: in these hours sums over queues (or apps, or IPs) differ from the account's money. anticaptcha-etl replay rebuilds them
-- from the stored responses

-- One pass over the facts: an hour of another dimension than the case names counts as null, which sum skips.
with hours as (
    select
        f.account_id                                                                     as account_id,
        f.day                                                                            as day,
        sum(case s.dimension when 'total' then f.volume when 'queue' then -f.volume end) as queue_volume,
        sum(case s.dimension when 'total' then f.money when 'queue' then -f.money end)   as queue_money,
        sum(case s.dimension when 'total' then f.volume when 'app' then -f.volume end)   as app_volume,
        sum(case s.dimension when 'total' then f.money when 'app' then -f.money end)     as app_money,
        sum(case s.dimension when 'total' then f.volume when 'ip' then -f.volume end)    as ip_volume,
        sum(case s.dimension when 'total' then f.money when 'ip' then -f.money end)      as ip_money,
        max(case s.dimension when 'app' then 1 end)                                      as apps,
        max(case s.dimension when 'ip' then 1 end)                                       as ips
    from internal.facts f
    join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id
    where f.account_id in :accounts
      and f.day >= :since
    group by f.account_id, f.day, f.hour_start
),
differences as (
    select account_id, day, 'queue' as dimension, queue_volume as volume, queue_money as money
    from hours
    union all
    select account_id, day, 'app', app_volume, app_money
    from hours
    where (account_id, day) in (select account_id, day from hours where apps = 1)
    union all
    select account_id, day, 'ip', ip_volume, ip_money
    from hours
    where (account_id, day) in (select account_id, day from hours where ips = 1)
)
select
    a.name        as account,
    d.day         as day,
    d.dimension   as cut,
    count(*)      as hours,
    sum(d.volume) as volume_short,
    sum(d.money)  as money_short
from differences d
join internal.accounts a on a.account_id = d.account_id
where d.volume <> 0
   or d.money <> 0
group by a.name, d.day, d.dimension
order by d.day desc;
