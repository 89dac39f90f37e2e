-- one row per final day that a sync read again, to see whether the API still returns what is stored
--
-- account: the account's name
-- run: number of the run in sync_runs
-- day: the UTC day
-- checked_at: start of the successful request for the day's total, UTC
-- is_random: true if every final day had the same chance; false if younger days were preferred
-- is_changed: true if the API returned another total than was stored
create view spot_checks as
select
    a.name                 as account,
    c.run                  as run,
    c.day                  as day,
    min(n.requested_at)    as checked_at,
    c.is_random            as is_random,
    count(v.hour_start) > 0 as is_changed
from internal.spot_checks c
join internal.accounts a         on a.account_id = c.account_id
join internal.series s           on s.account_id = c.account_id and s.dimension = 'total'
join internal.snapshots n        on n.account_id = c.account_id and n.run = c.run and n.day = c.day and n.series_id = s.series_id
left join internal.revisions v   on v.account_id = c.account_id and v.snapshot_id = n.snapshot_id and v.series_id = s.series_id
                                and v.cause <> 'attribution'
where n.outcome = 'success'
group by a.name, c.run, c.day, c.is_random;
