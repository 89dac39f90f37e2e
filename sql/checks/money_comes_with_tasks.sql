-- no hour of a closed day has spend without tasks that an earlier sync has not reported
-- severity: warning
-- remedy: the numbers are what the API returned, and this is reported once. If you know the charge, no action is needed;
-- otherwise ask Anti-Captcha about these hours
select
    a.name                        as account,
    f.day                         as day,
    s.dimension                   as cut,
    coalesce(s.member, '(total)') as member,
    count(*)                      as hours,
    sum(f.money)                  as money
from internal.facts f
join internal.snapshots n
    on n.account_id = f.account_id
   and n.snapshot_id = f.snapshot_id
   and n.account_id in :accounts
   and n.day >= :since
join internal.closed_days c
    on c.account_id = f.account_id
   and c.day = f.day
   and c.account_id in :accounts
   and c.day >= :since
   and greatest(n.run, c.closed_by) > c.reported_by_run
join internal.series s   on s.account_id = f.account_id and s.series_id = f.series_id
join internal.accounts a on a.account_id = f.account_id
where f.account_id in :accounts
  and f.day >= :since
  and f.volume = 0
  and f.money > 0
  and (s.dimension = 'total' or s.member is not null)
group by a.name, f.day, s.dimension, s.member
order by f.day desc;
