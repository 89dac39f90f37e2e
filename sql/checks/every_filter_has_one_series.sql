-- the account's total, each queue, app and IP, and each unattributed amount have exactly one series
-- severity: blocking
-- remedy: a name with two series counts twice in sums. Restore the warehouse from a copy, or move it away and load again with
-- anticaptcha-etl sync
select
    a.name                                                                                     as account,
    s.dimension                                                                                as cut,
    coalesce(s.member, case s.dimension when 'total' then '(total)' else '(unattributed)' end) as member,
    count(*)                                                                                   as series
from internal.series s
join internal.accounts a on a.account_id = s.account_id
where s.account_id in :accounts
group by a.name, s.dimension, s.member
having count(*) > 1;
