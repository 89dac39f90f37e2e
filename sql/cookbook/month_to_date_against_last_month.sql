-- one row per account and day of its newest month: spend since the 1st, and spend of the previous month up to the same day
--
-- Draw money and month_before as two lines. month_before is null if the previous month has no such day or it was never read.
with read_days as (
    select
        account,
        day,
        cast(date_trunc('month', cast(day as timestamp)) as date) as month,
        money,
        max(day) over (partition by account)                      as newest_day
    from coverage_daily
    where fetched_at is not null
),
running as (
    select
        account,
        day,
        month,
        newest_day,
        cast(sum(money) over (partition by account, month order by day) as decimal(18, 9)) as money
    from read_days
)
select
    r.account         as account,
    r.day             as day,
    r.money           as money,
    b.money           as month_before,
    r.money - b.money as difference
from running r
left join running b
    on b.account = r.account
   and b.month = cast(r.month - interval '1 month' as date)
   and extract(day from b.day) = extract(day from r.day)
where r.month = cast(date_trunc('month', cast(r.newest_day as timestamp)) as date)
order by account, day;
