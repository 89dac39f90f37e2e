-- one row per account, UTC month and queue with spend
--
-- is_final is true once all days of the month are final: then the books can be closed.
select
    account,
    month,
    queue,
    volume,
    money,
    price_per_1000,
    is_final
from spending_monthly
order by account, month desc, money desc, queue;
