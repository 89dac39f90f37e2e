-- one row per sync, newest first
select a.name as account, r.run, r.started_at, r.exit_code, r.requests, r.windows_good, r.windows_failed,
       coalesce(r.hourly_values_new, r.facts_inserted)    as new_values,
       coalesce(r.hourly_values_changed, r.facts_changed) as changed_values,
       r.rejections
  from internal.runs r
  join internal.accounts a on a.account_id = r.account_id
 where a.name in (select unnest(cast(:accounts as text[]))) and r.command = 'sync'
 order by r.started_at desc, a.name, r.run desc
 limit :limit
