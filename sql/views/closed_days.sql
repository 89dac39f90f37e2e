-- one row per account and closed UTC day: which run closed it, and which runs had told before what they found; what the checks
-- read that tell of a number once
--
-- account_id: the account's number
-- day: UTC day
-- closed_by: the run of the first good total of the whole day that was asked at least 10 minutes after the day's end
-- told_by: the last sync before the newest that came to its end; 0: none. One that was stopped, or refused by the API, told nothing
create view closed_days as
with newest as (
    select account_id, max(run) as run
    from runs
    where command = 'sync'
    group by account_id
),
told as (
    select n.account_id, coalesce(max(r.run), 0) as run
    from newest n
    left join runs r on r.account_id = n.account_id and r.command = 'sync' and r.run < n.run and r.exit_code in (0, 1, 5)
    group by n.account_id
)
select
    r.account_id as account_id,
    r.day        as day,
    min(r.run)   as closed_by,
    t.run        as told_by
from readings r
join series s on s.account_id = r.account_id and s.series_id = r.series_id and s.cut = 'total'
join told t   on t.account_id = r.account_id
where r.outcome = 'good'
  and r.window_start = cast(r.day as timestamp)
  and r.asked_at >= cast(r.day as timestamp) + interval '1 day 10 minutes'
group by r.account_id, r.day, t.run;
