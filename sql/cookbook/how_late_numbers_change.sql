-- one row per account and number of days after which the API corrected totals of hours that had ended
--
-- Close the books after the largest number. Days are counted from the hour's UTC day to the day on which a sync saw the correction,
-- which may be later than the correction itself.
select
    account,
    cast(seen_at as date) - cast(hour_start as date)             as days_later,
    count(*)                                                     as corrections,
    cast(sum(volume_after - volume_before) as bigint)            as volume_change,
    cast(sum(money_after - money_before) as decimal(18, 9))      as money_change,
    cast(max(abs(money_after - money_before)) as decimal(18, 9)) as largest_money_change
from spending_revisions
where queue = '(total)'
group by 1, 2
order by account, days_later;
