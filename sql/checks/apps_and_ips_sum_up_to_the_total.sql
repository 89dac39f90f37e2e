-- on days for which an app (or an IP) is held, the apps (the IPs) and what is unattributed add up to exactly the account's total
-- severity: blocking
-- remedy: sums over apps or IPs are not the account's money in these hours. anticaptcha-etl replay books them anew from the kept
-- answers
with parts as (
    select f.account_id, s.cut, f.day, f.hour_start, f.volume, f.money
    from facts f
    join series s on s.account_id = f.account_id and s.series_id = f.series_id
    where s.cut in ('app', 'ip')
),
sided as (
    select account_id, cut, day, hour_start, -volume as volume, -money as money
    from parts
    union all
    select f.account_id, p.cut, f.day, f.hour_start, f.volume, f.money
    from (select distinct account_id, cut, day from parts) p
    join series s on s.account_id = p.account_id and s.cut = 'total'
    join facts f  on f.account_id = p.account_id and f.series_id = s.series_id and f.day = p.day
),
unequal as (
    select account_id, cut, day, hour_start, sum(volume) as volume, sum(money) as money
    from sided
    group by account_id, cut, day, hour_start
    having sum(volume) <> 0 or sum(money) <> 0
)
select
    a.name        as account,
    u.day         as day,
    u.cut         as cut,
    count(*)      as hours,
    sum(u.volume) as volume_short,
    sum(u.money)  as money_short
from unequal u
join accounts a on a.account_id = u.account_id
group by a.name, u.day, u.cut
order by u.day desc;
