-- one row per account, UTC day and queue with spend, for the last 30 stored days
--
-- Sums over the queues are the account's totals. The newest day may still be running; days with is_final no longer change.
with newest as (
    select account, max(day) as day
    from coverage_daily
    where fetched_at is not null
    group by account
)
select
    s.account        as account,
    s.day            as day,
    s.queue          as queue,
    s.volume         as volume,
    s.money          as money,
    s.price_per_1000 as price_per_1000,
    s.is_final       as is_final
from spending_daily s
join newest n on n.account = s.account
where s.day > n.day - 30
order by account, day desc, money desc, queue;
