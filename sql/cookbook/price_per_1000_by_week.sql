-- one row per account, queue and week (named by its Monday, UTC) with tasks: price per 1000 tasks, and its change
--
-- Prices depend on load and bids, so weeks are more meaningful than hours. The change is relative to the queue's previous week with
-- tasks.
with weekly as (
    select
        account,
        queue,
        cast(date_trunc('week', cast(day as timestamp)) as date) as week,
        cast(sum(volume) as bigint)                              as volume,
        cast(sum(money) as decimal(18, 9))                       as money
    from spending_daily
    group by 1, 2, 3
),
priced as (
    select
        account,
        queue,
        week,
        volume,
        price_per_1000(money, volume)                                                       as price,
        lag(price_per_1000(money, volume)) over (partition by account, queue order by week) as price_before
    from weekly
    where volume > 0
)
select
    account,
    queue,
    week,
    volume,
    price                                                                                    as price_per_1000,
    cast(round((price - price_before) / nullif(price_before, 0) * 100, 2) as decimal(18, 2)) as change_percent
from priced
order by account, queue, week desc;
