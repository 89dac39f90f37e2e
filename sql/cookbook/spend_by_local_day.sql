-- one row per account and day of a local time zone
--
-- Replace UTC in the next line with your time zone, for example Europe/Berlin. A day has 23 or 25 hours when clocks change
-- there, and fewer if not all of it was fetched. In zones with half-hour offsets an hour counts towards the day it starts in.
with time_zone as (select 'UTC' as name),
hourly as (
    select
        t.account                                                           as account,
        cast((t.hour_start at time zone 'UTC') at time zone z.name as date) as local_day,
        t.volume                                                            as volume,
        t.money                                                             as money
    from spending_total_hourly t
    cross join time_zone z
)
select
    account,
    local_day,
    count(*)                           as hours,
    cast(sum(volume) as bigint)        as volume,
    cast(sum(money) as decimal(18, 9)) as money
from hourly
group by account, local_day
order by account, local_day desc;
