-- one row per account and UTC day of the history: what is stored, and whether it may still change
--
-- account: the account's name
-- day: UTC day
-- status: final, open (may still change), missing (never read), failed (the last attempt failed)
-- fetched_at: start of the last successful request for the day's total, UTC; null if there is none
-- unattributed_volume: tasks of the day's total that no verified queue explains
-- unattributed_money: US dollars of the day's total that no verified queue explains
-- volume: tasks of the day over all queues
-- money: US dollars of the day over all queues
-- contradicted_hours: hours whose queues (or apps, or IPs) add up to more than the total; such an hour is entirely unattributed
create view coverage_daily as
with over_allocated as (
    select account_id, day, count(distinct hour_start) as hours
    from internal.over_allocated_hours
    group by account_id, day
)
select
    a.name                as account,
    d.day                 as day,
    d.status              as status,
    d.fetched_at          as fetched_at,
    d.unattributed_volume as unattributed_volume,
    d.unattributed_money  as unattributed_money,
    d.volume              as volume,
    d.money               as money,
    coalesce(c.hours, 0)  as contradicted_hours
from internal.day_coverage d
join internal.accounts a on a.account_id = d.account_id
left join over_allocated c on c.account_id = d.account_id and c.day = d.day;
