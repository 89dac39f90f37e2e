-- one row per account, queue and hour with spend, as committed at a given moment: what spending_hourly showed then
--
-- The moment is a timestamp without time zone, in UTC. One with a time zone is refused, because a cast would use the session's time
-- zone: convert it with at time zone 'UTC'. A value applies from its commit until the commit that changed it. Facts have the values
-- that still apply, revisions the earlier ones.
create function spending_as_of(moment timestamp)
    returns table (
        account    text,
        queue      text,
        hour_start timestamp,
        hour_end   timestamp,
        volume     bigint,
        money      numeric,
        currency   text,
        loaded_at  timestamp,
        day        date
    )
    language sql
    stable
    parallel safe
    security definer
begin atomic
with values_then as (
    select f.account_id, f.series_id, f.day, f.hour_start, f.volume, f.money, f.loaded_at
    from internal.facts f
    where f.loaded_at <= moment
    union all
    select r.account_id, r.series_id, r.day, r.hour_start, r.volume_before, r.money_before, r.loaded_before
    from internal.revisions r
    where r.loaded_before <= moment
      and r.seen_at > moment
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
end;

-- The function reads tables with the rights of its owner, as the views do. So it needs an explicit grant.
revoke execute on function spending_as_of(timestamp) from public;
