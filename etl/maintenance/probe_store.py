"""Store probe answers, and load what the warehouse already knows about an account."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, insert, select, text

from etl.load.member_statuses import (
    load_member_statuses,
    load_unknown_name_behaviours,
    write_member_statuses,
    write_unknown_name_behaviours,
)
from etl.load.rows import from_db_utc, to_db_utc
from etl.load.upsert import commit_time, last_commit
from etl.maintenance.probes import Confidence, ProbeBaseline, ProbeResult
from etl.models import Dimension, MemberStatus, SeriesKey, UnknownNameBehaviour
from etl.warehouse.schema import probes

_ACCOUNT = "select account_id from internal.accounts where name = :name"

_NEWEST_DAY = """
    select max(day)
      from internal.day_coverage
     where account_id = :a and is_closed and status <> 'failed' and volume > 0
"""

_IDLEST_QUEUE = """
    select s.member
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and f.day = :day and s.dimension = 'queue' and s.member is not null
     group by s.member
     order by count(*), s.member
     limit 1
"""

_SPLIT_DAYS = """
    select count(*), count(*) filter (where d.is_explained)
      from internal.day_coverage as d
     where d.account_id = :a and d.is_closed and d.volume > 0
       and exists (
           select 1
             from internal.snapshots as n
             join internal.series    as s on s.account_id = n.account_id and s.series_id = n.series_id
            where n.account_id = :a and n.day = d.day and n.outcome = 'success' and s.dimension = 'queue'
       )
"""

_TOTAL_HOURS = """
    select count(*)
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and s.dimension = 'total'
"""

_CORRECTIONS = """
    select count(distinct r.hour_start), max(r.seen_at - r.hour_start)
      from internal.revisions as r
      join internal.series    as s on s.account_id = r.account_id and s.series_id = r.series_id
     where r.account_id = :a and r.cause = 'correction' and s.dimension = 'total'
"""


class BehaviourChange(NamedTuple):
    """What the API gave and now gives for an unknown member. ``reset``: excluded names to be requested again."""

    dimension: Dimension
    before: UnknownNameBehaviour
    now: UnknownNameBehaviour
    reset: tuple[str, ...]


def find_account_id(connection: Connection, name: str) -> int | None:
    account_id: int | None = connection.execute(text(_ACCOUNT), {"name": name}).scalar_one_or_none()
    return account_id


def load_baseline(connection: Connection, account_id: int) -> ProbeBaseline:
    account = {"a": account_id}
    day = connection.execute(text(_NEWEST_DAY), account).scalar_one()
    split_days, explained_days = connection.execute(text(_SPLIT_DAYS), account).one()
    corrected, latest = connection.execute(text(_CORRECTIONS), account).one()
    return ProbeBaseline(
        day=day,
        queue=connection.execute(text(_IDLEST_QUEUE), {**account, "day": day}).scalar_one_or_none(),
        split_days=split_days,
        explained_days=explained_days,
        hours=connection.execute(text(_TOTAL_HOURS), account).scalar_one(),
        corrected=corrected,
        latest=None if latest is None else latest - timedelta(hours=1),
    )


def latest_results(connection: Connection, account_id: int) -> list[ProbeResult]:
    """Return the latest stored answer to each question."""
    latest: dict[str, ProbeResult] = {}
    for row in connection.execute(select(probes).where(probes.c.account_id == account_id).order_by(probes.c.seen_at)):
        latest[row.question] = ProbeResult(
            question=row.question,
            answer=row.answer,
            certainty=Confidence(row.certainty),
            seen_at=from_db_utc(row.seen_at),
            series=None if row.dimension is None else SeriesKey(Dimension(row.dimension), row.member),
            window_start=None if row.window_start is None else from_db_utc(row.window_start),
            status=row.status,
        )
    return list(latest.values())


def save(
    connection: Connection,
    account_id: int,
    results: Iterable[ProbeResult],
    behaviours: Mapping[Dimension, UnknownNameBehaviour],
    now: datetime,
) -> list[BehaviourChange]:
    """Store the answers. Where unknown names now give something else, names excluded before are requested again."""
    rows = [_row(account_id, result) for result in results if result.certainty is not Confidence.OPEN]
    if rows:
        connection.execute(insert(probes), rows)
    at = commit_time(now, last_commit(connection, account_id))
    before = {dimension: behaviour for _, dimension, behaviour in load_unknown_name_behaviours(connection, account_id)}
    write_unknown_name_behaviours(connection, account_id, behaviours, at)
    return [
        BehaviourChange(dimension, before[dimension], now, _reset_excluded(connection, account_id, dimension, at))
        for dimension, now in behaviours.items()
        if dimension in before and now != before[dimension]
    ]


def _row(account_id: int, result: ProbeResult) -> dict[str, object]:
    return {
        "account_id": account_id,
        "question": result.question,
        "answer": result.answer,
        "certainty": result.certainty.value,
        "dimension": result.series.dimension.value if result.series else None,
        "member": result.series.member if result.series else None,
        "window_start": to_db_utc(result.window_start) if result.window_start else None,
        "status": result.status,
        "seen_at": to_db_utc(result.seen_at),
    }


def _reset_excluded(connection: Connection, account_id: int, dimension: Dimension, at: datetime) -> tuple[str, ...]:
    statuses = {change.series: change.member_status for change in load_member_statuses(connection, account_id)}
    excluded = sorted(
        series
        for series, status in statuses.items()
        if series.dimension is dimension and status is MemberStatus.EXCLUDED
    )
    write_member_statuses(connection, account_id, [(series, MemberStatus.UNVERIFIED, None) for series in excluded], at)
    return tuple(series.member or "" for series in excluded)
