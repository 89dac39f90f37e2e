-- one row per finding of each account's last completed sync, most severe first
--
-- Replays record no findings, and a sync that was stopped or refused did not check: neither means that all is well.
with last as (
    select account_id, max(run) as run
    from internal.runs
    where command = 'sync' and exit_code in (0, 1, 5)
    group by account_id
)
select a.name as account, f.severity, f.message
  from internal.findings f
  join last l     on l.account_id = f.account_id and l.run = f.run
  join internal.accounts a on a.account_id = f.account_id
 where a.name in (select unnest(cast(:accounts as text[])))
 order by case f.severity when 'blocking' then 1 when 'warning' then 2 else 3 end, f.day desc, f.message
