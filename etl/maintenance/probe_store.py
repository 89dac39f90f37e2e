"""What the warehouse keeps of visits, and what it holds that a visit builds on."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from etl.load.upsert import (
    commit_time,
    from_db_utc,
    last_commit,
    load_member_statuses,
    load_unknown_name_behaviours,
    to_db_utc,
    write_member_statuses,
    write_unknown_name_behaviours,
)
from etl.maintenance.probes import Confidence, ProbeBaseline, ProbeResult
from etl.models import Dimension, MemberStatus, SeriesKey, UnknownNameBehaviour

_ACCOUNT = "select account_id from internal.accounts where name = :name"

_DAY = """
    select max(day)
      from internal.day_coverage
     where account_id = :a and is_closed and status <> 'failed' and volume > 0
"""

_QUEUE = """
    select s.member
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and f.day = :day and s.dimension = 'queue' and s.member is not null
     group by s.member
     order by count(*), s.member
     limit 1
"""

_SPLIT = """
    select count(*), count(*) filter (where d.is_explained)
      from internal.day_coverage as d
     where d.account_id = :a and d.is_closed and d.volume > 0
       and exists (
           select 1
             from internal.snapshots as r
             join internal.series   as s on s.account_id = r.account_id and s.series_id = r.series_id
            where r.account_id = :a and r.day = d.day and r.outcome = 'success' and s.dimension = 'queue'
       )
"""

_HOURS = """
    select count(*)
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and s.dimension = 'total'
"""

_CORRECTED = """
    select count(distinct r.hour_start), max(r.seen_at - r.hour_start)
      from internal.revisions as r
      join internal.series    as s on s.account_id = r.account_id and s.series_id = r.series_id
     where r.account_id = :a and r.cause = 'correction' and s.dimension = 'total'
"""

_PROBES = """
    select question, answer, certainty, dimension, member, window_start, status, seen_at
      from internal.probes
     where account_id = :a
     order by seen_at
"""

_NEW_PROBE = """
    insert into internal.probes (account_id, question, answer, certainty, dimension, member, window_start, status, seen_at)
    values (:a, :question, :answer, :certainty, :dimension, :member, :window_start, :status, :seen_at)
"""


class BehaviourChange(NamedTuple):
    """What a member of ``dimension`` that cannot exist gives now, what it gave before, and names that get another chance for it."""

    dimension: Dimension
    before: UnknownNameBehaviour
    now: UnknownNameBehaviour
    again: tuple[str, ...]


def find_account_id(connection: Connection, name: str) -> int | None:
    """The account's number; None when nothing was loaded for it."""
    number: int | None = connection.execute(text(_ACCOUNT), {"name": name}).scalar_one_or_none()
    return number


def load_baseline(connection: Connection, account: int) -> ProbeBaseline:
    """What the warehouse holds of an account that a visit can build on."""
    me: dict[str, object] = {"a": account}
    day = connection.execute(text(_DAY), me).scalar_one()
    split_days, explained_days = connection.execute(text(_SPLIT), me).one()
    corrected, latest = connection.execute(text(_CORRECTED), me).one()
    return ProbeBaseline(
        day=day,
        queue=connection.execute(text(_QUEUE), {**me, "day": day}).scalar_one_or_none(),
        split_days=split_days,
        explained_days=explained_days,
        hours=connection.execute(text(_HOURS), me).scalar_one(),
        corrected=corrected,
        latest=None if latest is None else latest - timedelta(hours=1),
    )


def latest_results(connection: Connection, account: int) -> list[ProbeResult]:
    """The latest answer to each question."""
    latest: dict[str, ProbeResult] = {}
    for row in connection.execute(text(_PROBES), {"a": account}):
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
    account: int,
    found: Iterable[ProbeResult],
    learned: Mapping[Dimension, UnknownNameBehaviour],
    now: datetime,
) -> list[BehaviourChange]:
    """Keeps what a visit found. Where a lesson changed, names that were set aside under the old one are asked again."""
    me: dict[str, object] = {"a": account}
    for probe in found:
        if probe.certainty is not Confidence.OPEN:
            connection.execute(text(_NEW_PROBE), {**me, **_row(probe)})
    at = commit_time(now, last_commit(connection, account))
    stored = {
        dimension: unknown_name_behaviour
        for _, dimension, unknown_name_behaviour in load_unknown_name_behaviours(connection, account)
    }
    write_unknown_name_behaviours(connection, account, learned, at)
    return [
        BehaviourChange(
            dimension,
            stored[dimension],
            unknown_name_behaviour,
            _give_another_chance(connection, account, dimension, at),
        )
        for dimension, unknown_name_behaviour in learned.items()
        if dimension in stored and unknown_name_behaviour != stored[dimension]
    ]


def _row(probe: ProbeResult) -> dict[str, object]:
    return {
        "question": probe.question,
        "answer": probe.answer,
        "certainty": probe.certainty.value,
        "dimension": probe.series.dimension.value if probe.series else None,
        "member": probe.series.member if probe.series else None,
        "window_start": to_db_utc(probe.window_start) if probe.window_start else None,
        "status": probe.status,
        "seen_at": to_db_utc(probe.seen_at),
    }


def _give_another_chance(connection: Connection, account: int, dimension: Dimension, at: datetime) -> tuple[str, ...]:
    thought = {thought.series: thought.member_status for thought in load_member_statuses(connection, account)}
    again = sorted(
        series
        for series, member_status in thought.items()
        if series.dimension is dimension and member_status is MemberStatus.EXCLUDED
    )
    write_member_statuses(connection, account, [(series, MemberStatus.UNVERIFIED, None) for series in again], at)
    return tuple(series.member or "" for series in again)
