-- one row per account and day of a local time zone, of what was read
--
-- Put your zone into the first line. A day has 23 or 25 hours when clocks change there, and fewer where not all of it was read.
-- Hours are whole in UTC: in a zone that is half an hour off, an hour counts for the day in which it begins.
with zone as (select 'Europe/Berlin' as name),
hourly as (
    select
        t.account                                                           as account,
        cast((t.hour_start at time zone 'UTC') at time zone z.name as date) as local_day,
        t.volume                                                            as volume,
        t.money                                                             as money
    from spending_total_hourly t
    cross join zone z
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
