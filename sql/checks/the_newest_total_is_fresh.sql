-- the newest stored total is at most 48 hours old
-- severity: warning
-- remedy: what is stored is right, but the last days are missing. Run anticaptcha-etl sync; if it runs every night, check its
-- output and its --until setting
with reached as (
    select account_id, max(least(cast(day + 1 as timestamp), fetched_at)) as reached_to
    from internal.day_coverage
    where account_id in :accounts
      and fetched_at is not null
    group by account_id
)
select
    a.name                               as account,
    coalesce(r.reached_to, a.created_at) as held_until
from internal.accounts a
left join reached r on r.account_id = a.account_id
where a.account_id in :accounts
  and coalesce(r.reached_to, a.created_at) < :now - interval '48 hours';
