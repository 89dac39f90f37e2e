-- one row per account, queue and hour with spend, as had been committed at a moment: what spending_hourly showed then
--
-- The moment is UTC without zone; one with a zone is refused, for a cast would follow the session's zone: say at time zone 'UTC'.
-- A value is held from its commit until the commit that changed it: facts hold those that still stand, revisions the others.
create function spending_as_of(moment timestamp)
    returns table (
        account    text,
        queue      text,
        hour_start timestamp,
        hour_end   timestamp,
        volume     bigint,
        money      numeric,
        currency   text,
        loaded_at  timestamp
    )
    language sql
    stable
    parallel safe
    security definer
begin atomic
with held as (
    select f.account_id, f.series_id, f.hour_start, f.volume, f.money, f.loaded_at
    from internal.facts f
    where f.loaded_at <= moment
    union all
    select r.account_id, r.series_id, r.hour_start, r.volume_before, r.money_before, r.loaded_before
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
    h.loaded_at                          as loaded_at
from held h
join internal.series s   on s.account_id = h.account_id and s.series_id = h.series_id
join internal.accounts a on a.account_id = h.account_id
where s.dimension = 'queue'
  and (h.volume <> 0 or h.money <> 0);
end;

-- It reads the tables with the rights of its owner, as the views do. So not everybody may run it.
revoke execute on function spending_as_of(timestamp) from public;
