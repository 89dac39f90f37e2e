-- in every hour of a closed day the queues, the apps and the IPs each add up to no more than the account's total
-- severity: blocking
-- remedy: these hours are unattributed, so every sum is right, only the breakdown is unknown. The next anticaptcha-etl sync
-- requests them again; reconciliation_hourly shows what the queues report
select
    a.name      as account,
    c.day       as day,
    s.dimension as cut,
    count(*)    as hours
from internal.over_allocated_hours c
join internal.day_coverage d on d.account_id = c.account_id and d.day = c.day
join internal.series s       on s.account_id = c.account_id and s.series_id = c.series_id
join internal.accounts a     on a.account_id = c.account_id
where c.account_id in :accounts
  and d.is_closed
  and d.day >= :since
group by a.name, c.day, s.dimension
order by c.day desc;
