"""Store probe answers, and load what the warehouse already knows about an account."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection, insert, select, text

from etl.load.member_statuses import write_member_statuses, write_unknown_name_behaviours
from etl.load.rows import to_db_utc
from etl.load.stored_account import Account, load_member_statuses
from etl.load.upsert import commit_time, last_commit
from etl.maintenance.probes import BehaviourChange, Confidence, ProbeBaseline, ProbeResult
from etl.models import Dimension, MemberStatus, UnknownNameBehaviour
from etl.warehouse.reading import from_db_utc, from_db_utc_or_none, reader_of
from etl.warehouse.schema import probes

_BASELINE = """
    with hours as (
        select s.dimension, s.member, f.day
          from internal.facts  as f
          join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
         where f.account_id = :a
    ),
    split as (
        select distinct n.day
          from internal.snapshots as n
          join internal.series    as s on s.account_id = n.account_id and s.series_id = n.series_id
         where n.account_id = :a and n.outcome = 'success' and s.dimension = 'queue'
    ),
    days as (
        select c.day, c.status, c.is_explained, split.day is not null as is_split
          from internal.day_coverage as c
          left join split on split.day = c.day
         where c.account_id = :a and c.is_closed and c.volume > 0
    ),
    newest as (
        select max(day) as day from days where status <> 'failed'
    ),
    idlest as (
        select h.member
          from hours  as h
          join newest as n on n.day = h.day
         where h.dimension = 'queue' and h.member is not null
         group by h.member
         order by count(*), h.member
         limit 1
    ),
    corrections as (
        select r.hour_start, r.seen_at - r.hour_start - interval '1 hour' as delay
          from internal.revisions as r
          join internal.series    as s on s.account_id = r.account_id and s.series_id = r.series_id
         where r.account_id = :a and r.cause = 'correction' and s.dimension = 'total'
    )
    select (select day from newest),
           (select member from idlest),
           (select count(*) from days where is_split),
           (select count(*) from days where is_split and is_explained),
           (select count(*) from hours where dimension = 'total'),
           (select count(distinct hour_start) from corrections),
           (select max(delay) from corrections)
"""


def load_baseline(connection: Connection, account: Account) -> ProbeBaseline:
    return ProbeBaseline(*connection.execute(text(_BASELINE), {"a": account.account_id}).one())


def latest_results(connection: Connection, account: Account) -> list[ProbeResult]:
    """Return the latest stored answer to each question."""
    columns = [probes.c[name] for name in ProbeResult._fields]
    statement = select(*columns).where(probes.c.account_id == account.account_id).order_by(probes.c.seen_at)
    results = [ProbeResult(*row) for row in connection.execute(statement)]
    latest = {result.question: result for result in results}
    return [
        result._replace(
            certainty=Confidence(result.certainty),
            seen_at=from_db_utc(result.seen_at),
            window_start=from_db_utc_or_none(result.window_start),
        )
        for result in latest.values()
    ]


def save(
    connection: Connection,
    account: Account,
    results: Iterable[ProbeResult],
    behaviours: Mapping[Dimension, UnknownNameBehaviour],
    now: datetime,
) -> list[BehaviourChange]:
    """Store the answers. Where unknown names now give something else, names excluded before are requested again."""
    rows = [_row(account.account_id, result) for result in results if result.certainty is not Confidence.OPEN]
    if rows:
        connection.execute(insert(probes), rows)
    at = commit_time(now, last_commit(connection, account.account_id))
    write_unknown_name_behaviours(connection, account.account_id, behaviours, at)
    changes = []
    for dimension, behaviour in behaviours.items():
        before = account.unknown_name_behaviours.get(dimension, behaviour)
        if before != behaviour:
            reset = _reset_excluded(connection, account, dimension, at)
            changes.append(BehaviourChange(dimension, before, behaviour, reset))
    return changes


def _row(account_id: int, result: ProbeResult) -> dict[str, object]:
    times = {
        "seen_at": to_db_utc(result.seen_at),
        "window_start": result.window_start and to_db_utc(result.window_start),
    }
    return {"account_id": account_id, **result._asdict(), **times}


def _reset_excluded(connection: Connection, account: Account, dimension: Dimension, at: datetime) -> tuple[str, ...]:
    changes = load_member_statuses(reader_of(connection), account.account_id)
    statuses = {change.series: change.member_status for change in changes if change.series.dimension is dimension}
    excluded = sorted(series for series, status in statuses.items() if status is MemberStatus.EXCLUDED)
    reset = [(series, MemberStatus.UNVERIFIED, None) for series in excluded]
    write_member_statuses(connection, account.account_id, reset, at)
    return tuple(series.member or "" for series in excluded)
