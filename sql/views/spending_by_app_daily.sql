-- one row per account, app and UTC day with spend, on days with data for an app
--
-- account: the account's name
-- soft_id: softId of the app; null: part of the account's total that no requested app explains
-- day: UTC day its hours count towards
-- volume: tasks; sums over all apps are exactly the account's total of the day; never add them to queues or IPs
-- money: US dollars, exact; sums over all apps are exactly the account's total of the day; never add them to queues or IPs
-- price_per_1000: US dollars per 1000 tasks, rounded half away from zero to 9 decimals; null without tasks; cannot be summed
-- is_final: true if the day was read after its lookback had passed; otherwise it may still change
create view spending_by_app_daily as
with spent as (
    select
        account_id,
        series_id,
        day,
        cast(sum(volume) as bigint)        as volume,
        cast(sum(money) as decimal(18, 9)) as money
    from internal.facts -- only totals have rows without spend
    group by account_id, series_id, day
)
select
    a.name                                                        as account,
    cast(case s.dimension when 'app' then s.member end as bigint) as soft_id,
    p.day                                                         as day,
    p.volume                                                      as volume,
    p.money                                                       as money,
    cast(price_per_1000(p.money, p.volume) as decimal(18, 9))     as price_per_1000,
    coalesce(d.status = 'final', false)                           as is_final
from spent p
join internal.series s            on s.account_id = p.account_id and s.series_id = p.series_id
join internal.accounts a          on a.account_id = p.account_id
left join internal.day_coverage d on d.account_id = p.account_id and d.day = p.day
where s.dimension = 'app';
