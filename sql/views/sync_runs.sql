-- one row per sync of an account: what it did, how long it took and how it ended
--
-- account: the account's name
-- run: its number, counted within the account
-- version: the version of the program
-- started_at: when it began, UTC
-- ended_at: when it ended, UTC; null: still running, or killed, and then what was counted is not known
-- seconds: from start to end
-- exit_code: 0 done, 1 windows failed or were left, 3 the account was refused, 5 a blocking finding, 130 interrupted
-- requests: requests made
-- retries: those of them that asked again after trouble
-- windows_good: answers that could be used
-- windows_failed: windows that failed after all retries; the next sync asks them again
-- windows_left: days left for the next sync, at least
-- facts_inserted: hours of the total, of a queue, an app or an IP that were new
-- facts_changed: such hours that were held and are different now
-- facts_unchanged: such hours that were held, were read again and said the same; null: that version did not count them
-- rejections: records refused; see spending_rejections
-- notes: findings that ask nothing
-- warnings: findings that want a person; the numbers are right
-- blocking: findings because of which the numbers are not to be trusted yet
create view sync_runs as
with told as (
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
    coalesce(t.blocking, 0)                                                 as blocking
from internal.runs r
join internal.accounts a on a.account_id = r.account_id
left join told t         on t.account_id = r.account_id and t.run = r.run
where r.command = 'sync';
