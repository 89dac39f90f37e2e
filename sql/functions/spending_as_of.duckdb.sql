-- one row per account, queue and hour with spend, as committed at a given moment: what spending_hourly showed then
--
-- A moment without a time zone is UTC. One with a time zone is converted explicitly, because a cast would use the session's time
-- zone. A value applies from its commit until the commit that changed it. Facts have the values that still apply, revisions the
-- earlier ones.
create macro spending_as_of(moment) as table
with point_in_time as (
    select case typeof(moment)
        when 'TIMESTAMP WITH TIME ZONE' then make_timestamp(epoch_us(cast(moment as timestamptz)))
        else cast(moment as timestamp)
    end as utc
),
values_then as (
    select account_id, series_id, day, hour_start, volume, money, loaded_at
    from internal.facts
    where loaded_at <= (select utc from point_in_time)
    union all
    select account_id, series_id, day, hour_start, volume_before, money_before, loaded_before
    from internal.revisions
    where loaded_before <= (select utc from point_in_time)
      and seen_at > (select utc from point_in_time)
)
select
    a.name                               as account,
    coalesce(s.member, '(unattributed)') as queue,
    h.hour_start                         as hour_start,
    h.hour_start + interval '1 hour'     as hour_end,
    h.volume                             as volume,
    h.money                              as money,
    'USD'                                as currency,
    h.loaded_at                          as loaded_at,
    h.day                                as day
from values_then h
join internal.series s   on s.account_id = h.account_id and s.series_id = h.series_id
join internal.accounts a on a.account_id = h.account_id
where s.dimension = 'queue'
  and (h.volume <> 0 or h.money <> 0);
