-- one row per account and UTC month: number of days by status, and how much of the money no queue explains
--
-- Look at this first: with missing days the sum of a month is too small, with open days it may still change.
select
    account,
    cast(date_trunc('month', cast(day as timestamp)) as date)                               as month,
    count(*) filter (where status = 'final')                                                as final_days,
    count(*) filter (where status = 'open')                                                 as open_days,
    count(*) filter (where status = 'missing')                                              as missing_days,
    count(*) filter (where status = 'failed')                                               as failed_days,
    cast(sum(money) as decimal(18, 9))                                                      as money,
    cast(sum(unattributed_money) as decimal(18, 9))                                         as unattributed_money,
    cast(round(sum(unattributed_money) / nullif(sum(money), 0) * 100, 2) as decimal(18, 2)) as unattributed_percent
from coverage_daily
group by 1, 2
order by account, month desc;
