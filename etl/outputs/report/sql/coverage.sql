-- one row per account and stored day
select account, day, status, fetched_at, unattributed_volume, unattributed_money
  from coverage_daily
 where account in (select unnest(cast(:accounts as text[])))
 order by account, day
