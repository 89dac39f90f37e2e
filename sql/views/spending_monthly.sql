-- one row per account, queue and UTC month with spend
--
-- account: the account's name
-- queue: queue name; (unattributed): part of the account's total that no verified queue explains
-- month: first day of the UTC month
-- volume: tasks
-- money: US dollars, exact
-- price_per_1000: US dollars per 1000 tasks, rounded half away from zero to 9 decimals; null without tasks; cannot be summed
-- is_final: true if all days of the month are final, from the account's first stored day (or the 1st) to the last day of the
-- month; false for the running month and for months with a day that is missing, failed, open or was never requested
create view spending_monthly as
with spent as (
    select
        account_id,
        series_id,
        cast(date_trunc('month', cast(day as timestamp)) as date) as month,
        cast(sum(volume) as bigint)                               as volume,
        cast(sum(money) as decimal(18, 9))                        as money
    from internal.facts -- only totals have rows without spend
    group by 1, 2, 3
),
finals as (
    select
        account_id,
        cast(date_trunc('month', cast(day as timestamp)) as date) as month,
        count(*)                                                  as days
    from internal.day_coverage
    where status = 'final'
    group by 1, 2
),
firsts as (
    select account_id, min(day) as day
    from internal.day_coverage
    group by account_id
)
select
    a.name                                                                                          as account,
    coalesce(s.member, '(unattributed)')                                                            as queue,
    p.month                                                                                         as month,
    p.volume                                                                                        as volume,
    p.money                                                                                         as money,
    cast(price_per_1000(p.money, p.volume) as decimal(18, 9))                                       as price_per_1000,
    coalesce(e.days = cast(p.month + interval '1 month' as date) - greatest(p.month, b.day), false) as is_final
from spent p
join internal.series s   on s.account_id = p.account_id and s.series_id = p.series_id
join internal.accounts a on a.account_id = p.account_id
left join finals e       on e.account_id = p.account_id and e.month = p.month
left join firsts b       on b.account_id = p.account_id
where s.dimension = 'queue';
