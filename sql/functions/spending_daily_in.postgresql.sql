-- one row per account, queue and day of a time zone with spend: spending_daily with local days, such as of 'Europe/Istanbul'
--
-- A day has 23 or 25 hours when clocks change there. In zones with offsets of 30 or 45 minutes an hour belongs to the day
-- it begins on. is_final is true if all its hours are final.
create function spending_daily_in(zone text)
    returns table (
        account        text,
        queue          text,
        day            date,
        volume         bigint,
        money          numeric,
        price_per_1000 numeric,
        is_final       boolean
    )
    language sql
    stable
    parallel safe
    security definer
begin atomic
with spent as (
    select
        f.account_id                                                        as account_id,
        f.series_id                                                         as series_id,
        cast((f.hour_start at time zone 'UTC') at time zone zone as date)   as day,
        cast(sum(f.volume) as bigint)                                       as volume,
        cast(sum(f.money) as numeric(18, 9))                                as money,
        bool_and(coalesce(d.status = 'final', false))                       as is_final
    from internal.facts f
    left join internal.day_coverage d on d.account_id = f.account_id and d.day = f.day
    where f.volume <> 0 or f.money <> 0
    group by 1, 2, 3
)
select
    a.name                                                    as account,
    coalesce(s.member, '(unattributed)')                      as queue,
    p.day                                                     as day,
    p.volume                                                  as volume,
    p.money                                                   as money,
    cast(price_per_1000(p.money, p.volume) as numeric(18, 9)) as price_per_1000,
    p.is_final                                                as is_final
from spent p
join internal.series s   on s.account_id = p.account_id and s.series_id = p.series_id
join internal.accounts a on a.account_id = p.account_id
where s.dimension = 'queue';
end;

-- The function reads tables with the rights of its owner, as the views do. So it needs an explicit grant.
revoke execute on function spending_daily_in(text) from public;
