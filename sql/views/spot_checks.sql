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
    a.name       as account,
    c.run        as run,
    c.day        as day,
    c.checked_at as checked_at,
    c.is_random  as is_random,
    c.is_changed as is_changed
from internal.day_checks c
join internal.accounts a on a.account_id = c.account_id
where c.checked_at is not null;
