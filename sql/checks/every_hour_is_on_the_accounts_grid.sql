-- hours start at the account's hour offset and belong to their own UTC day, so that no two hours overlap
-- severity: blocking
-- remedy: these hours may overlap others, so sums may count money twice. anticaptcha-etl replay rebuilds them from the stored
-- responses
with starts as (
    select
        f.account_id as account_id,
        f.day        as day,
        cast(extract(epoch from f.hour_start - cast(f.day as timestamp)) as bigint) - coalesce(a.hour_offset_seconds, 0) as seconds
    from internal.facts f
    join internal.accounts a on a.account_id = f.account_id
    where f.account_id in :accounts
      and f.day >= :since
)
select
    a.name   as account,
    p.day    as day,
    count(*) as hours
from starts p
join internal.accounts a on a.account_id = p.account_id
where mod(p.seconds, 3600) <> 0
   or p.seconds < 0
   or p.seconds >= 86400
group by a.name, p.day
order by p.day desc;
