-- one row: the oldest day with spend; null if there is none
select min(day) as day from spending_daily_in(:zone) where account in (select unnest(cast(:accounts as text[])))
