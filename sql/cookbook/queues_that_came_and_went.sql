-- one row per account and queue: when it was first and last used, and how many days it has been inactive
--
-- Inactive days are counted to the newest stored day, not to today: a sync that did not run makes no queue inactive.
with newest as (
    select account, max(day) as day
    from coverage_daily
    where fetched_at is not null
    group by account
)
select
    s.account                            as account,
    s.queue                              as queue,
    min(s.day)                           as first_day,
    max(s.day)                           as last_day,
    count(*)                             as days_with_spend,
    n.day - max(s.day)                   as silent_days,
    cast(sum(s.volume) as bigint)        as volume,
    cast(sum(s.money) as decimal(18, 9)) as money
from spending_daily s
join newest n on n.account = s.account
group by s.account, s.queue, n.day
order by account, last_day desc, money desc, queue;
