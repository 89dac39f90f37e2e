-- one row per account and closed UTC day: the run that closed it; checks use it to report each value only once
--
-- account_id: account
-- day: UTC day
-- closed_by: run of the first successful total of the whole day that was requested at least 10 minutes after the end of the day
-- reported_by_run: latest sync before the newest one that ran to its end and so reported its findings; 0 if there is none
create view internal.closed_days as
with newest as (
    select account_id, max(run) as run
    from internal.runs
    where command = 'sync'
    group by account_id
),
reported as (
    select n.account_id, coalesce(max(r.run), 0) as run
    from newest n
    left join internal.runs r
        on r.account_id = n.account_id
       and r.command = 'sync'
       and r.run < n.run
       and r.exit_code in (0, 1, 5)
    group by n.account_id
)
select
    n.account_id as account_id,
    n.day        as day,
    min(n.run)   as closed_by,
    r.run        as reported_by_run
from internal.snapshots n
join internal.series s on s.account_id = n.account_id and s.series_id = n.series_id and s.dimension = 'total'
join reported r        on r.account_id = n.account_id
where n.outcome = 'success'
  and n.window_start = cast(n.day as timestamp)
  and n.requested_at >= cast(n.day as timestamp) + interval '1 day 10 minutes'
group by n.account_id, n.day, r.run;
