-- an hour of a series is stored once
-- severity: blocking
-- remedy: these hours count twice in sums, and sync does not correct that. anticaptcha-etl replay rebuilds them from the
-- stored responses; then find out which other program writes to the file

-- Each hour of a day is one bit: without duplicates the sum of the bits equals their union. This is three times
-- as fast as grouping by hour.
with bits as (
    select account_id, series_id, day, cast(1 as bigint) << cast(extract(hour from hour_start) as integer) as hour
    from internal.facts
    where account_id in :accounts
      and day >= :since
),
suspects as (
    select account_id, series_id, day
    from bits
    group by account_id, series_id, day
    having sum(hour) <> bit_or(hour)
),
duplicates as (
    select distinct f.account_id, f.series_id, f.day
    from suspects p
    join internal.facts f on f.account_id = p.account_id and f.series_id = p.series_id and f.day = p.day and f.day >= :since
    group by f.account_id, f.series_id, f.day, f.hour_start
    having count(*) > 1
)
select
    a.name   as account,
    t.day    as day,
    count(*) as series
from duplicates t
join internal.accounts a on a.account_id = t.account_id
group by a.name, t.day
order by t.day desc;
