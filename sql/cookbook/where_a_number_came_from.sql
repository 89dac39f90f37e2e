-- one row per account, queue and hour of the newest final day: the value, and the snapshot, response and run it comes from
--
-- Every fact has a snapshot, and every snapshot has its run and the hash of its response. The response itself is in
-- internal.responses.body, compressed with zlib. An (unattributed) value has the snapshot of the total. Run this on the warehouse
-- itself: published copies have no responses.
select
    a.name                               as account,
    coalesce(s.member, '(unattributed)') as queue,
    f.hour_start                         as hour_start,
    f.volume                             as volume,
    f.money                              as money,
    f.loaded_at                          as believed_since,
    r.snapshot_id                        as snapshot_id,
    r.requested_at                       as requested_at,
    r.window_start                       as asked_for,
    r.hash                               as answer,
    octet_length(b.body)                 as answer_bytes,
    n.run                                as run,
    n.started_at                         as run_started_at,
    n.version                            as version
from (select account_id, max(day) as day from internal.day_coverage where status = 'final' group by account_id) d
join internal.facts f          on f.account_id = d.account_id and f.day = d.day
join internal.accounts a       on a.account_id = f.account_id
join internal.series s         on s.account_id = f.account_id and s.series_id = f.series_id
join internal.snapshots r      on r.account_id = f.account_id and r.snapshot_id = f.snapshot_id
join internal.runs n           on n.account_id = r.account_id and n.run = r.run
left join internal.responses b on b.account_id = r.account_id and b.hash = r.hash
where s.dimension = 'queue'
order by account, f.hour_start, queue;
