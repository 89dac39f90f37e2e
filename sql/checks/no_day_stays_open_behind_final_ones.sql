-- a day that was first read more than a week ago, and is older than a final one, is final too
-- severity: warning
-- remedy: these days may still change and are requested again by every sync. If they stay open, see anticaptcha-etl status: a
-- sync may be stopped before it reaches them, or the API may not return some of their hours

-- It needs no knowledge of --lookback: with any, the days before a final one have been due.
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
