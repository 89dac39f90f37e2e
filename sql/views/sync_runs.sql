-- one row per sync of an account: what it did, how long it took and how it ended
--
-- account: the account's name
-- run: number of the run, counted per account
-- version: version of anticaptcha-etl
-- started_at: start of the run, UTC
-- ended_at: end of the run, UTC; null if it is still running or was killed: then its counts are unknown
-- seconds: from start to end
-- exit_code: 0 done, 1 windows failed or were left, 3 the account was rejected, 5 a blocking finding, 130 interrupted
-- requests: requests sent, including retries
-- retries: requests sent again after an error
-- windows_good: windows with a usable response
-- windows_failed: windows that failed after all retries; the next sync requests them again
-- windows_left: minimum number of days left for the next sync
-- facts_inserted: new hourly values of the total, a queue, an app or an IP
-- facts_changed: stored hourly values that changed
-- facts_unchanged: stored hourly values that were read again without a change; null if that version did not count them
-- rejections: rejected records; see spending_rejections
-- notes: findings that need no action
-- warnings: findings that someone should look at; the numbers are right
-- blocking: findings that make numbers unreliable until they are fixed
-- first_day: first day read; null, as the following columns, if an earlier version did not store it
-- last_day: last day read
-- days: number of days read
-- money: spend of the days read, US dollars, at the end of the run
-- hourly_values_new: rows added to spending_hourly
-- hourly_values_changed: changed rows of spending_hourly, without (unattributed)
create view sync_runs as
with findings_by_run as (
    select
        account_id,
        run,
        count(case when severity = 'note' then 1 end)     as notes,
        count(case when severity = 'warning' then 1 end)  as warnings,
        count(case when severity = 'blocking' then 1 end) as blocking
    from internal.findings
    group by account_id, run
)
select
    a.name                                                                  as account,
    r.run                                                                   as run,
    r.version                                                               as version,
    r.started_at                                                            as started_at,
    r.ended_at                                                              as ended_at,
    cast(extract(epoch from (r.ended_at - r.started_at)) as decimal(12, 3)) as seconds,
    r.exit_code                                                             as exit_code,
    case when r.ended_at is not null then r.requests end                    as requests,
    case when r.ended_at is not null then r.retries end                     as retries,
    case when r.ended_at is not null then r.windows_good end                as windows_good,
    case when r.ended_at is not null then r.windows_failed end              as windows_failed,
    case when r.ended_at is not null then r.windows_left end                as windows_left,
    case when r.ended_at is not null then r.facts_inserted end              as facts_inserted,
    case when r.ended_at is not null then r.facts_changed end               as facts_changed,
    case when r.ended_at is not null then r.facts_unchanged end             as facts_unchanged,
    case when r.ended_at is not null then r.rejections end                  as rejections,
    coalesce(t.notes, 0)                                                    as notes,
    coalesce(t.warnings, 0)                                                 as warnings,
    coalesce(t.blocking, 0)                                                 as blocking,
    r.first_day                                                             as first_day,
    r.last_day                                                              as last_day,
    r.days                                                                  as days,
    r.money                                                                 as money,
    r.hourly_values_new                                                     as hourly_values_new,
    r.hourly_values_changed                                                 as hourly_values_changed
from internal.runs r
join internal.accounts a    on a.account_id = r.account_id
left join findings_by_run t on t.account_id = r.account_id and t.run = r.run
where r.command = 'sync';
