-- one row per account, queue and hour with spend, as had been committed at a moment: what spending_hourly showed then
--
-- The moment is UTC when it has no zone. With one it is the same moment whatever the session's zone, which a cast alone would follow.
-- A value is held from its commit until the commit that changed it: facts hold those that still stand, revisions the others.
create macro spending_as_of(moment) as table
with asked as (
    select case typeof(moment)
        when 'TIMESTAMP WITH TIME ZONE' then make_timestamp(epoch_us(cast(moment as timestamptz)))
        else cast(moment as timestamp)
    end as utc
),
held as (
    select account_id, series_id, hour_start, volume, money, loaded_at
    from internal.facts
    where loaded_at <= (select utc from asked)
    union all
    select account_id, series_id, hour_start, volume_before, money_before, loaded_before
    from internal.revisions
    where loaded_before <= (select utc from asked)
      and seen_at > (select utc from asked)
)
select
    a.name                               as account,
    coalesce(s.member, '(unattributed)') as queue,
    h.hour_start                         as hour_start,
    h.hour_start + interval '1 hour'     as hour_end,
    h.volume                             as volume,
    h.money                              as money,
    'USD'                                as currency,
    h.loaded_at                          as loaded_at
from held h
join internal.series s   on s.account_id = h.account_id and s.series_id = h.series_id
join internal.accounts a on a.account_id = h.account_id
where s.dimension = 'queue'
  and (h.volume <> 0 or h.money <> 0);
