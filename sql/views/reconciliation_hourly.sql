-- one row per account and hour: the total reported by the API next to the sum of the queues. In a running hour they may differ
-- only because they were requested one after the other
--
-- account: the account's name
-- day: UTC day the hour counts towards
-- hour_start: first second of the hour, UTC
-- hour_end: exclusive end of the hour, UTC
-- total_volume: tasks over all queues, as reported by the API
-- total_money: US dollars over all queues, as reported by the API
-- queues_volume: tasks of the verified queues, also in contradicted hours
-- queues_money: US dollars of the verified queues, also in contradicted hours
-- rest_volume: total_volume minus queues_volume; negative only in contradicted hours
-- rest_money: total_money minus queues_money; negative by more than rounding only in contradicted hours
-- state: explained (the queues add up to the total, except for rounding), rest (the difference is unattributed), contradicted
-- (the queues add up to more than the total, so the entire hour is unattributed)
create view reconciliation_hourly as
with summed as (
    select
        f.account_id                                                  as account_id,
        f.day                                                         as day,
        f.hour_start                                                  as hour_start,
        sum(case when s.dimension = 'total' then f.volume else 0 end) as total_volume,
        sum(case when s.dimension = 'total' then f.money else 0 end)  as total_money,
        sum(case when s.dimension = 'queue' then f.volume else 0 end) as queues_volume,
        sum(case when s.dimension = 'queue' then f.money else 0 end)  as queues_money,
        count(case when s.dimension = 'queue' then 1 end)             as queues
    from internal.facts f
    join internal.series s on s.account_id = f.account_id and s.series_id = f.series_id
    where s.dimension = 'total' or (s.dimension = 'queue' and s.member is not null)
    group by f.account_id, f.day, f.hour_start
),
over_allocated as (
    select c.account_id, c.hour_start, c.volume, c.money
    from internal.over_allocated_hours c
    join internal.series s on s.account_id = c.account_id and s.series_id = c.series_id
    where s.dimension = 'queue'
),
compared as (
    select
        h.account_id                                              as account_id,
        h.day                                                     as day,
        h.hour_start                                              as hour_start,
        h.queues                                                  as queues,
        cast(h.total_volume as bigint)                            as total_volume,
        cast(h.total_money as decimal(18, 9))                     as total_money,
        cast(coalesce(e.volume, h.queues_volume) as bigint)       as queues_volume,
        cast(coalesce(e.money, h.queues_money) as decimal(18, 9)) as queues_money,
        e.hour_start is not null                                  as is_over_allocated
    from summed h
    left join over_allocated e on e.account_id = h.account_id and e.hour_start = h.hour_start
)
select
    a.name                                                 as account,
    c.day                                                  as day,
    c.hour_start                                           as hour_start,
    c.hour_start + interval '1 hour'                       as hour_end,
    c.total_volume                                         as total_volume,
    c.total_money                                          as total_money,
    c.queues_volume                                        as queues_volume,
    c.queues_money                                         as queues_money,
    c.total_volume - c.queues_volume                       as rest_volume,
    cast(c.total_money - c.queues_money as decimal(18, 9)) as rest_money,
    case
        when c.is_over_allocated then 'contradicted'
        when c.total_volume = c.queues_volume
         and abs(c.total_money - c.queues_money) <= 0.000001 * (c.queues + 1) then 'explained'
        else 'rest'
    end as state
from compared c
join internal.accounts a on a.account_id = c.account_id;
