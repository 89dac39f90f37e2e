-- a day that was first read more than a week ago is final if a later day is final
-- severity: warning
-- remedy: these days may still change, and every sync requests them again. If they stay open, run anticaptcha-etl status: syncs
-- may stop before they reach these days, or the API may not return some hours

-- This does not depend on --lookback: days before a final one are always past their lookback, too.
with newest as (
    select account_id, max(day) as day
    from internal.day_coverage
    where status = 'final'
    group by account_id
)
select
    a.name                            as account,
    d.day                             as day,
    cast(min(r.requested_at) as date) as read_since
from internal.day_coverage d
join internal.accounts a  on a.account_id = d.account_id
join newest n             on n.account_id = d.account_id and n.day > d.day
join internal.series s    on s.account_id = d.account_id and s.dimension = 'total'
join internal.snapshots r on r.account_id = d.account_id and r.series_id = s.series_id and r.day = d.day and r.outcome = 'success'
where d.account_id in :accounts
  and d.status = 'open'
  and d.day >= coalesce(a.since, d.day)
group by a.name, d.day
having min(r.requested_at) < :now - interval '7 days'
order by d.day desc;
