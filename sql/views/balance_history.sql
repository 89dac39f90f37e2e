-- one row per reading of an account's balance
--
-- account: the account's name
-- read_at: start of the request, UTC
-- balance: US dollars on the account
-- captcha_credits: credits, as the API reports them; null if it does not
-- spent_at_least: US dollars of the hours that lie wholly between the reading before and this one; null for the first reading
-- spent_at_most: the same with the hours in which the two readings fell
-- top_up: US dollars by which the balance is higher than the spend explains; it was topped up or refunded by at least this much
-- missing: US dollars by which the balance is lower than the spend explains; it may be charged later than it is counted
create view balance_history as
with readings as (
    select
        b.account_id,
        b.read_at,
        b.balance,
        b.captcha_credits,
        lag(b.read_at) over (partition by b.account_id order by b.read_at) as previous_at,
        lag(b.balance) over (partition by b.account_id order by b.read_at) as previous_balance
    from internal.balances b
),
spent as (
    select
        r.account_id,
        r.read_at,
        sum(case when f.hour_start >= r.previous_at and f.hour_start + interval '1 hour' <= r.read_at then f.money end) as at_least,
        sum(f.money)                                                                                                    as at_most
    from readings r
    join internal.series s on s.account_id = r.account_id and s.dimension = 'total'
    join internal.facts f  on f.account_id = r.account_id and f.series_id = s.series_id
                          and f.hour_start > r.previous_at - interval '1 hour' and f.hour_start < r.read_at
    group by r.account_id, r.read_at
),
compared as (
    select
        r.*,
        case when r.previous_at is not null then coalesce(s.at_least, 0) end as at_least,
        case when r.previous_at is not null then coalesce(s.at_most, 0) end  as at_most,
        r.balance - r.previous_balance + coalesce(s.at_least, 0)             as risen,
        r.previous_balance - r.balance - coalesce(s.at_most, 0)              as fallen
    from readings r
    left join spent s on s.account_id = r.account_id and s.read_at = r.read_at
)
select
    a.name                                                                                     as account,
    c.read_at                                                                                  as read_at,
    c.balance                                                                                  as balance,
    c.captcha_credits                                                                          as captcha_credits,
    cast(c.at_least as decimal(18, 9))                                                         as spent_at_least,
    cast(c.at_most as decimal(18, 9))                                                          as spent_at_most,
    cast(case when c.risen > 0 then c.risen when c.risen <= 0 then 0 end as decimal(18, 9))    as top_up,
    cast(case when c.fallen > 0 then c.fallen when c.fallen <= 0 then 0 end as decimal(18, 9)) as missing
from compared c
join internal.accounts a on a.account_id = c.account_id;
