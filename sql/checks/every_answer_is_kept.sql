-- every response with loaded values is stored, unless raw_retention_days deleted it
-- severity: warning
-- remedy: the numbers are right, but a replay cannot rebuild these days. Restore the responses from a copy of the warehouse
select
    a.name   as account,
    r.day    as day,
    count(*) as answers
from internal.snapshots r
join internal.accounts a          on a.account_id = r.account_id
left join internal.responses b    on b.account_id = r.account_id and b.hash = r.hash
left join internal.day_coverage d on d.account_id = r.account_id and d.day = r.day
where r.account_id in :accounts
  and r.day >= :since
  and r.outcome in ('success', 'partial')
  and b.hash is null
  and not coalesce(r.day < a.raw_kept_from and d.status = 'final', false)
group by a.name, r.day
order by r.day desc;
