-- one row per day with spend
select day, cast(sum(money) as decimal(18, 9)) as money
  from spending_daily_in(:zone)
 where account in (select unnest(cast(:accounts as text[]))) and day >= :since
 group by day
