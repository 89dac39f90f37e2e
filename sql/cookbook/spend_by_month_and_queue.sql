-- one row per account, UTC month and queue with spend
--
-- is_final is true once every day of the month is: the moment to close the books.
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
