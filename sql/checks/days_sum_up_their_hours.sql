-- the sums stored for a day equal the sums of its hours, in total and unattributed
-- severity: blocking
-- remedy: for these days coverage_daily and status show other sums than the hours. anticaptcha-etl replay rebuilds them from
-- the stored responses
with differences as (
    select
        d.account_id          as account_id,
        d.day                 as day,
        d.volume              as volume,
        d.money               as money,
        d.unattributed_volume as unattributed_volume,
        d.unattributed_money  as unattributed_money
    from internal.day_coverage d
    where d.account_id in :accounts
      and d.day >= :since
    union all
    select
        f.account_id,
        f.day,
        case s.dimension when 'total' then -f.volume else 0 end,
        case s.dimension when 'total' then -f.money else 0 end,
        case s.dimension when 'queue' then -f.volume else 0 end,
        case s.dimension when 'queue' then -f.money else 0 end
    from internal.facts f
    join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id
    where f.account_id in :accounts
      and f.day >= :since
      and (s.dimension = 'total' or (s.dimension = 'queue' and s.member is null))
)
select
    a.name                     as account,
    t.day                      as day,
    sum(t.volume)              as volume_over,
    sum(t.money)               as money_over,
    sum(t.unattributed_volume) as unattributed_volume_over,
    sum(t.unattributed_money)  as unattributed_money_over
from differences t
join internal.accounts a on a.account_id = t.account_id
group by a.name, t.day
having sum(t.volume) <> 0
    or sum(t.money) <> 0
    or sum(t.unattributed_volume) <> 0
    or sum(t.unattributed_money) <> 0
order by t.day desc;
