-- one row per revision, newest first
select account, queue, hour_start, volume_before, money_before, volume_after, money_after, seen_at
  from spending_revisions
 where account in (select unnest(cast(:accounts as text[])))
 order by seen_at desc, hour_start desc, queue
 limit :limit
