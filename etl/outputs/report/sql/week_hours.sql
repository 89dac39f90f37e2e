-- one row per hour of the week with loaded hours; weekday 1 is Monday
--
-- An hour that had not ended when it was loaded is left out: it would look cheaper than it is.
with loaded as (
    select account, max(fetched_at) as until from coverage_daily group by account
)
select cast(extract(isodow from (t.hour_start at time zone 'UTC') at time zone :zone) as integer) as weekday,
       cast(extract(hour from (t.hour_start at time zone 'UTC') at time zone :zone) as integer)   as hour,
       count(distinct t.hour_start)                       as hours,
       cast(sum(t.volume) as bigint)                      as volume,
       cast(sum(t.money) as decimal(18, 9))               as money
  from spending_total_hourly t
  join loaded l on l.account = t.account
 where t.account in (select unnest(cast(:accounts as text[])))
   and cast((t.hour_start at time zone 'UTC') at time zone :zone as date) between :first and :last
   and t.hour_end <= l.until
 group by 1, 2
 order by 1, 2
