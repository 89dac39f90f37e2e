-- one row per account with a balance and spend in the last 28 days: how long the balance lasts
--
-- Each coming hour counts as the same hour of the week in the last 7 days, or as its average in the last 28. The range also has the
-- last 7 days made dearer and cheaper by as much as the last four weeks differ, at least by 5 %. Only hours before the one in which
-- the balance was read count.
--
-- account: the account's name
-- read_at: when the balance was read, UTC
-- balance: US dollars on the account then
-- days_by_7_days: days from then until the balance is used up, at the pace of the last 7 days; null if nothing was spent in them
-- days_by_28_days: the same at the pace of the last 28 days
-- days_low: the shortest of all paces
-- days_high: the longest of all paces; null if the weeks differ too much to say
-- empty_at: when the balance is used up at the pace of the last 7 days, UTC; null if nothing was spent in them
create view runway as
with reading as (
    select
        account_id,
        read_at,
        date_trunc('hour', read_at)      as hour,
        balance,
        greatest(cast(balance as double precision), 0) as amount
    from (
        select b.*, row_number() over (partition by b.account_id order by b.read_at desc) as place
        from internal.balances b
    ) as ordered
    where place = 1
),
hours as (
    select
        f.account_id,
        cast(ceil(extract(epoch from r.hour - f.hour_start) / 3600) as integer) as hours_ago,
        cast(f.money as double precision)                                       as money
    from reading r
    join internal.series s on s.account_id = r.account_id and s.dimension = 'total'
    join internal.facts f  on f.account_id = r.account_id and f.series_id = s.series_id
                          and f.hour_start >= r.hour - interval '28 days' and f.hour_start <= r.hour - interval '1 hour'
),
by_hour as (
    select
        account_id,
        (672 - hours_ago) % 168                                     as hour_ahead,
        sum(case when hours_ago <= 168 then money else 0 end)       as last_week,
        sum(money) / 4                                              as average_week
    from hours
    group by account_id, (672 - hours_ago) % 168
),
by_week as (
    select account_id, floor((hours_ago - 1) / 168.0) as weeks_ago, sum(money) as money
    from hours
    group by account_id, floor((hours_ago - 1) / 168.0)
),
weeks as (
    select
        account_id,
        case
            when count(*) = 4 and sum(money) > 0 then greatest(0.05, 4 * (max(money) - min(money)) / sum(money))
            else 1
        end as difference
    from by_week
    group by account_id
),
paces as (
    select r.account_id, 7 as pace, r.amount from reading r
    union all
    select r.account_id, 28, r.amount from reading r
    union all
    select r.account_id, 1, r.amount / (1 + w.difference) from reading r join weeks w using (account_id)
    union all
    select r.account_id, 2, r.amount / (1 - w.difference) from reading r join weeks w using (account_id) where w.difference < 0.9
),
spending as (
    select
        p.account_id,
        p.pace,
        p.amount,
        h.hour_ahead,
        case when p.pace = 28 then h.average_week else h.last_week end as money
    from paces p
    join by_hour h on h.account_id = p.account_id
),
walked as (
    select
        account_id,
        pace,
        amount,
        hour_ahead,
        money,
        sum(money) over (partition by account_id, pace)                     as per_week,
        sum(money) over (partition by account_id, pace order by hour_ahead) as spent
    from spending
),
remainders as (
    select
        *,
        floor(amount / per_week)                       as whole_weeks,
        amount - floor(amount / per_week) * per_week   as remainder
    from walked
    where per_week > 0
),
lasting as (
    select account_id, pace, min(7 * whole_weeks + (hour_ahead + 1 - (spent - remainder) / money) / 24) as days
    from remainders
    where money > 0 and spent >= remainder and spent - money <= remainder
    group by account_id, pace
),
by_account as (
    select
        account_id,
        max(case when pace = 7 then days end)                             as days_by_7_days,
        max(case when pace = 28 then days end)                            as days_by_28_days,
        min(days)                                                         as days_low,
        case when count(case when pace = 2 then 1 end) = 1 then max(days) end as days_high
    from lasting
    group by account_id
)
select
    a.name                                                                      as account,
    r.read_at                                                                   as read_at,
    r.balance                                                                   as balance,
    cast(round(cast(d.days_by_7_days as decimal(18, 9)), 1) as decimal(18, 1))  as days_by_7_days,
    cast(round(cast(d.days_by_28_days as decimal(18, 9)), 1) as decimal(18, 1)) as days_by_28_days,
    cast(round(cast(d.days_low as decimal(18, 9)), 1) as decimal(18, 1))        as days_low,
    cast(round(cast(d.days_high as decimal(18, 9)), 1) as decimal(18, 1))       as days_high,
    r.hour + d.days_by_7_days * interval '1 day'                                as empty_at
from by_account d
join reading r           on r.account_id = d.account_id
join internal.accounts a on a.account_id = d.account_id;
