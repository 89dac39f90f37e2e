-- snapshots of an account are numbered without gaps, so that each fact has exactly one source
-- severity: blocking
-- remedy: the numbers decide which of two responses applies. The file is inconsistent: restore it from a copy, with that
-- copy's own .wal or without one, or move it away and load again with anticaptcha-etl sync
with numbered as (
    select
        account_id,
        day,
        snapshot_id - lag(snapshot_id, 1, 0) over (partition by account_id order by snapshot_id) as step
    from internal.snapshots
    where account_id in :accounts
)
select
    a.name   as account,
    n.day    as day,
    count(*) as readings
from numbered n
join internal.accounts a on a.account_id = n.account_id
where n.step <> 1
group by a.name, n.day
order by n.day desc;
