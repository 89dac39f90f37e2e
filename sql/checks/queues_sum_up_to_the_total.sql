-- in every hour the queues and what is unattributed add up to exactly the account's total
-- severity: blocking
-- remedy: sums over queues are not the account's money in these hours. anticaptcha-etl replay books them anew from the kept
-- answers
with sided as (
    select
        f.account_id                                               as account_id,
        f.day                                                      as day,
        f.hour_start                                               as hour_start,
        case s.cut when 'total' then f.volume else -f.volume end as volume,
        case s.cut when 'total' then f.money else -f.money end   as money
    from facts f
    join series s on s.account_id = f.account_id and s.series_id = f.series_id
    where s.cut in ('total', 'queue')
),
unequal as (
    select account_id, day, hour_start, sum(volume) as volume, sum(money) as money
    from sided
    group by account_id, day, hour_start
    having sum(volume) <> 0 or sum(money) <> 0
)
select
    a.name        as account,
    u.day         as day,
    count(*)      as hours,
    sum(u.volume) as volume_short,
    sum(u.money)  as money_short
from unequal u
join accounts a on a.account_id = u.account_id
group by a.name, u.day
order by u.day desc;
