-- one row per account, UTC month and queue with spend: its share of the month's money and tasks, in percent
--
-- If the money share is larger than the task share, the queue is more expensive than the account's average.
select
    account,
    month,
    queue,
    money,
    cast(round(money / nullif(sum(money) over w, 0) * 100, 2) as decimal(18, 2))   as money_percent,
    volume,
    cast(round(volume / nullif(sum(volume) over w, 0) * 100, 2) as decimal(18, 2)) as volume_percent
from spending_monthly
window w as (partition by account, month)
order by account, month desc, money desc, queue;
