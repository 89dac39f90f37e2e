-- how long the balances last
select account, read_at, balance, days_by_7_days, days_low, days_high
from runway
where account in (select unnest(cast(:accounts as text[])))
order by days_by_7_days;
