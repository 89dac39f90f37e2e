-- a reading's number is its own, so that each fact knows the answer it came from
-- severity: blocking
-- remedy: which of two answers holds is decided by these numbers. Restore the warehouse from a copy, or move it away and load
-- again with anticaptcha-etl sync; then look for a second program that writes to the file
with twice as (
    select account_id, reading, max(day) as day
    from readings
    group by account_id, reading
    having count(*) > 1
)
select
    a.name   as account,
    t.day    as day,
    count(*) as readings
from twice t
join accounts a on a.account_id = t.account_id
group by a.name, t.day
order by t.day desc;
