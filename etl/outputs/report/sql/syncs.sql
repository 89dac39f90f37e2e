-- one row per sync, newest first
select a.name as account, r.run, r.started_at, r.exit_code, r.requests, r.windows_good, r.windows_failed,
       r.facts_inserted, r.facts_changed, r.rejections
  from internal.runs r
  join internal.accounts a on a.account_id = r.account_id
 where a.name in :accounts and r.command = 'sync'
 order by r.started_at desc, a.name, r.run desc
 limit :limit
