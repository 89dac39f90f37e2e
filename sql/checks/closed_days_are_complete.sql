-- the account's total is stored for every hour of a closed day
-- severity: blocking
-- remedy: sums of these days lack the missing hours. The next anticaptcha-etl sync requests days that are not final again;
-- anticaptcha-etl replay rebuilds final days from the stored responses

-- A stopped run may leave its last days incomplete. The next run completes them, so this check allows them a week.
select
    a.name                   as account,
    d.day                    as day,
    24 - count(f.hour_start) as missing_hours
from internal.day_coverage d
join internal.accounts a   on a.account_id = d.account_id
join internal.series s     on s.account_id = d.account_id and s.dimension = 'total'
left join internal.facts f on f.account_id = d.account_id and f.series_id = s.series_id and f.day = d.day
where d.account_id in :accounts
  and d.is_closed
  and ((d.status = 'final' and d.day >= :since) or (d.status = 'open' and d.fetched_at < :now - interval '7 days'))
group by a.name, d.day
having count(f.hour_start) < 24
order by d.day desc;
