-- one row per account and queue: the last 7 full days compared with the 7 before, split into the effects of tasks and prices
--
-- tasks_effect is what the change in tasks would have cost at the old price, price_effect is the remaining change.
-- Without tasks in the week before there is no old price, so the entire change is tasks_effect. The newest stored day is left out
-- because it may still be running.
with newest as (
    select account, max(day) as day
    from coverage_daily
    where fetched_at is not null
    group by account
),
weeks as (
    select
        s.account                                                                         as account,
        s.queue                                                                           as queue,
        cast(sum(case when s.day < n.day - 7 then s.volume else 0 end) as bigint)         as volume_before,
        cast(sum(case when s.day < n.day - 7 then s.money else 0 end) as decimal(18, 9))  as money_before,
        cast(sum(case when s.day >= n.day - 7 then s.volume else 0 end) as bigint)        as volume,
        cast(sum(case when s.day >= n.day - 7 then s.money else 0 end) as decimal(18, 9)) as money
    from spending_daily s
    join newest n on n.account = s.account
    where s.day >= n.day - 14
      and s.day < n.day
    group by s.account, s.queue
),
split as (
    select
        account,
        queue,
        volume_before,
        volume,
        money_before,
        money,
        coalesce(
            cast(round(price_per_1000(money_before, volume_before) * (volume - volume_before) * 0.001, 9) as decimal(18, 9)),
            money - money_before
        ) as tasks_effect
    from weeks
)
select
    account,
    queue,
    volume_before,
    volume,
    money_before,
    money,
    money - money_before                                                                     as change,
    tasks_effect,
    money - money_before - tasks_effect                                                      as price_effect,
    cast(round((money - money_before) / nullif(money_before, 0) * 100, 2) as decimal(18, 2)) as change_percent
from split
order by account, abs(money - money_before) desc, queue;
