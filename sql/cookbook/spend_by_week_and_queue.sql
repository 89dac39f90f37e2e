-- one row per account, week (named by its Monday, UTC) and queue with spend
--
-- The price is computed from the sums of the week: in an average of daily prices, a quiet Sunday would count as much as a busy
-- Tuesday.
with weekly as (
    select
        account,
        cast(date_trunc('week', cast(day as timestamp)) as date) as week,
        queue,
        cast(sum(volume) as bigint)                              as volume,
        cast(sum(money) as decimal(18, 9))                       as money
    from spending_daily
    group by 1, 2, 3
)
select
    account,
    week,
    queue,
    volume,
    money,
    price_per_1000(money, volume) as price_per_1000
from weekly
order by account, week desc, money desc, queue;
