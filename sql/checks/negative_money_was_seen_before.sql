-- no hour of a closed day has negative money that an earlier sync has not told of
-- severity: warning
-- remedy: the numbers are as the API gave them, and this is told once. If they are refunds you know, nothing is to be done;
-- otherwise ask the service what these hours were
select
    a.name                        as account,
    f.day                         as day,
    s.cut                         as cut,
    coalesce(s.member, '(total)') as member,
    count(*)                      as hours,
    sum(f.money)                  as money
from facts f
join readings r    on r.account_id = f.account_id and r.reading = f.reading and r.account_id in :accounts and r.day >= :since
join closed_days c
    on c.account_id = f.account_id
   and c.day = f.day
   and c.account_id in :accounts
   and c.day >= :since
   and greatest(r.run, c.closed_by) > c.told_by
join series s      on s.account_id = f.account_id and s.series_id = f.series_id
join accounts a    on a.account_id = f.account_id
where f.account_id in :accounts
  and f.day >= :since
  and f.money < 0
  and (s.cut = 'total' or s.member is not null)
group by a.name, f.day, s.cut, s.member
order by f.day desc;
