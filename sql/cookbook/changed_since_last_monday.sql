-- one row per account, UTC day and queue before last Monday whose stored values have changed since that Monday
--
-- Includes corrections by the API, amounts that were unattributed then, and days that were first read since. Monday is the last one
-- before the newest stored day, at 00:00 UTC. To compare with last month's report, change the moment in the first lines.
with monday as (
    select date_trunc('week', cast(max(day) - 1 as timestamp)) as moment
    from coverage_daily
    where fetched_at is not null
),
compared as (
    select h.account, cast(h.hour_start as date) as day, h.queue, h.volume, h.money, 0 as volume_then, 0.0 as money_then
    from spending_hourly h
    cross join monday m
    where h.hour_start < m.moment
    union all
    select h.account, cast(h.hour_start as date), h.queue, 0, 0, h.volume, h.money
    from spending_as_of((select moment from monday)) h
    cross join monday m
    where h.hour_start < m.moment
)
select
    account,
    day,
    queue,
    cast(sum(volume_then) as bigint)                     as volume_then,
    cast(sum(volume) as bigint)                          as volume_now,
    cast(sum(money_then) as decimal(18, 9))              as money_then,
    cast(sum(money) as decimal(18, 9))                   as money_now,
    cast(sum(money) - sum(money_then) as decimal(18, 9)) as change
from compared
group by account, day, queue
having sum(volume) <> sum(volume_then) or sum(money) <> sum(money_then)
order by account, day desc, queue;
