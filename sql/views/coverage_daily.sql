-- one row per account and UTC day of the history: what is held, and how sure it is
--
-- account: the account's name
-- day: UTC day
-- status: final, open (may still change), missing (never read), failed (the last attempt failed)
-- fetched_at: when the last good total of the day was asked, UTC; null when none is held
-- unattributed_volume: tasks of the day's total that no believed queue explains
-- unattributed_money: US dollars of the day's total that no believed queue explains
-- volume: tasks of the day over all queues
-- money: US dollars of the day over all queues
create view coverage_daily as
select
    a.name                as account,
    d.day                 as day,
    d.status              as status,
    d.fetched_at          as fetched_at,
    d.unattributed_volume as unattributed_volume,
    d.unattributed_money  as unattributed_money,
    d.volume              as volume,
    d.money               as money
from days d
join accounts a on a.account_id = d.account_id;
