"""What the warehouse keeps of visits, and what it holds that a visit builds on."""

from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from etl.care.questions import Certainty, Known, Probe, kept
from etl.load.upsert import aware, commit_time, last_commit, lessons_held, naive, thoughts_held, write_beliefs, write_lessons
from etl.records import Belief, Cut, Filter, Lesson

_ACCOUNT = "select account_id from accounts where name = :name"

_DAY = """
    select max(day)
      from days
     where account_id = :a and closed and status <> 'failed' and volume > 0
"""

_QUEUE = """
    select s.member
      from facts  as f
      join series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and f.day = :day and s.cut = 'queue' and s.member is not null
     group by s.member
     order by count(*), s.member
     limit 1
"""

_SPLIT = """
    select count(*), count(*) filter (where d.explained)
      from days as d
     where d.account_id = :a and d.closed and d.volume > 0
       and exists (
           select 1
             from readings as r
             join series   as s on s.account_id = r.account_id and s.series_id = r.series_id
            where r.account_id = :a and r.day = d.day and r.outcome = 'good' and s.cut = 'queue'
       )
"""

_HOURS = """
    select count(*)
      from facts  as f
      join series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and s.cut = 'total'
"""

_CORRECTED = """
    select count(distinct r.hour_start), max(r.seen_at - r.hour_start)
      from revisions as r
      join series    as s on s.account_id = r.account_id and s.series_id = r.series_id
     where r.account_id = :a and r.cause = 'source' and s.cut = 'total'
"""

_PROBES = """
    select question, answer, certainty, cut, member, window_start, status, seen_at
      from probes
     where account_id = :a
     order by seen_at
"""

_NEW_PROBE = """
    insert into probes (account_id, question, answer, certainty, cut, member, window_start, status, seen_at)
    values (:a, :question, :answer, :certainty, :cut, :member, :window_start, :status, :seen_at)
"""


class Changed(NamedTuple):
    """What a member of ``cut`` that cannot exist gives now, what it gave before, and names that get another chance for it."""

    cut: Cut
    before: Lesson
    now: Lesson
    again: tuple[str, ...]


def account_id(connection: Connection, name: str) -> int | None:
    """The account's number; None when nothing was loaded for it."""
    number: int | None = connection.execute(text(_ACCOUNT), {"name": name}).scalar_one_or_none()
    return number


def known(connection: Connection, account: int) -> Known:
    """What the warehouse holds of an account that a visit can build on."""
    me: dict[str, object] = {"a": account}
    day = connection.execute(text(_DAY), me).scalar_one()
    split_days, explained_days = connection.execute(text(_SPLIT), me).one()
    corrected, latest = connection.execute(text(_CORRECTED), me).one()
    return Known(
        day=day,
        queue=connection.execute(text(_QUEUE), {**me, "day": day}).scalar_one_or_none(),
        split_days=split_days,
        explained_days=explained_days,
        hours=connection.execute(text(_HOURS), me).scalar_one(),
        corrected=corrected,
        latest=None if latest is None else latest - timedelta(hours=1),
    )


def probes(connection: Connection, account: int) -> list[Probe]:
    """The latest answer to each question."""
    latest: dict[str, Probe] = {}
    for row in connection.execute(text(_PROBES), {"a": account}):
        latest[row.question] = Probe(
            question=row.question,
            answer=row.answer,
            certainty=Certainty(row.certainty),
            seen_at=aware(row.seen_at),
            filter=None if row.cut is None else Filter(Cut(row.cut), row.member),
            window_start=None if row.window_start is None else aware(row.window_start),
            status=row.status,
        )
    return list(latest.values())


def keep(
    connection: Connection, account: int, found: Iterable[Probe], learned: Mapping[Cut, Lesson], now: datetime
) -> list[Changed]:
    """Keeps what a visit found. Where a lesson changed, names that were set aside under the old one are asked again."""
    me: dict[str, object] = {"a": account}
    for probe in kept(found):
        connection.execute(text(_NEW_PROBE), {**me, **_row(probe)})
    at = commit_time(now, last_commit(connection, account))
    held = {cut: lesson for _, cut, lesson in lessons_held(connection, account)}
    write_lessons(connection, account, learned, at)
    return [
        Changed(cut, held[cut], lesson, _give_another_chance(connection, account, cut, at))
        for cut, lesson in learned.items()
        if cut in held and lesson != held[cut]
    ]


def _row(probe: Probe) -> dict[str, object]:
    return {
        "question": probe.question,
        "answer": probe.answer,
        "certainty": probe.certainty.value,
        "cut": probe.filter.cut.value if probe.filter else None,
        "member": probe.filter.member if probe.filter else None,
        "window_start": naive(probe.window_start) if probe.window_start else None,
        "status": probe.status,
        "seen_at": naive(probe.seen_at),
    }


def _give_another_chance(connection: Connection, account: int, cut: Cut, at: datetime) -> tuple[str, ...]:
    thought = {thought.filter: thought.belief for thought in thoughts_held(connection, account)}
    again = sorted(filter for filter, belief in thought.items() if filter.cut is cut and belief is Belief.SET_ASIDE)
    write_beliefs(connection, account, [(filter, Belief.DOUBTED, None) for filter in again], at)
    return tuple(filter.member or "" for filter in again)
