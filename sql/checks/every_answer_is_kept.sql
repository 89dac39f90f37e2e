-- every response with loaded values is stored, unless raw_retention_days deleted it
-- severity: warning
-- remedy: the numbers are right, but a replay cannot rebuild these days. Restore the responses from a copy of the warehouse

-- The responses are reduced to those of the snapshots first: usually few of very many.
with wanted as (
    select a.name as account, r.account_id as account_id, r.day as day, r.hash as hash
    from internal.snapshots r
    join internal.accounts a          on a.account_id = r.account_id
    left join internal.day_coverage d on d.account_id = r.account_id and d.day = r.day
    where r.account_id in :accounts
      and r.day >= :since
      and r.outcome in ('success', 'partial')
      and not coalesce(r.day < a.raw_kept_from and d.status = 'final', false)
),
found as (
    select distinct b.account_id, b.hash
    from internal.responses b
    join wanted w on w.account_id = b.account_id and w.hash = b.hash
)
select
    w.account as account,
    w.day     as day,
    count(*)  as answers
from wanted w
left join found f on f.account_id = w.account_id and f.hash = w.hash
where f.hash is null
group by w.account, w.day
order by w.day desc;
