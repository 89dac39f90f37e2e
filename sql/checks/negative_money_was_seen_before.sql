-- no hour has negative money that an earlier sync has not told of
-- severity: warning
-- remedy: the numbers are as the API gave them, and this is told once. If they are refunds you know, nothing is to be done;
-- otherwise ask the service what these hours were
with newest as (
    select account_id, max(run) as run
    from runs
    where command = 'sync'
    group by account_id
),
seen as (
    select n.account_id, coalesce(max(r.run), 0) as run
    from newest n
    left join runs r
      on r.account_id = n.account_id and r.command = 'sync' and r.run < n.run and r.ended_at is not null and r.exit_code <> 130
    group by n.account_id
)
select
    a.name                        as account,
    f.day                         as day,
    s.cut                         as cut,
    coalesce(s.member, '(total)') as member,
    count(*)                      as hours,
    sum(f.money)                  as money
from facts f
join readings r on r.account_id = f.account_id and r.reading = f.reading
join seen e     on e.account_id = f.account_id and r.run > e.run
join series s   on s.account_id = f.account_id and s.series_id = f.series_id
join accounts a on a.account_id = f.account_id
where f.money < 0
  and (s.cut = 'total' or s.member is not null)
group by a.name, f.day, s.cut, s.member
order by f.day desc;
