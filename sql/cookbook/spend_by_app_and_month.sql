-- one row per account, UTC month and app with spend, for days with data for an app
--
-- soft_id is null for the part that no requested app explains. For IPs use spending_by_ip_daily and ip instead; never add the two.
with monthly as (
    select
        account,
        cast(date_trunc('month', cast(day as timestamp)) as date) as month,
        soft_id,
        cast(sum(volume) as bigint)                               as volume,
        cast(sum(money) as decimal(18, 9))                        as money
    from spending_by_app_daily
    group by 1, 2, 3
)
select
    account,
    month,
    soft_id,
    volume,
    money,
    price_per_1000(money, volume)                                                                            as price_per_1000,
    cast(round(money / nullif(sum(money) over (partition by account, month), 0) * 100, 2) as decimal(18, 2)) as money_percent
from monthly
order by account, month desc, money desc, soft_id;
