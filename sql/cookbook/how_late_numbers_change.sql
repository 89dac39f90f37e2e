-- one row per account and number of days after which the API corrected totals of hours that had ended
--
-- When to close the books: after the last of these. Days are counted from the hour's UTC day to the one on which it was seen, which
-- is no earlier than the next sync.
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
