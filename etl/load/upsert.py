"""One transaction for answers, readings, facts, revisions, rejections, beliefs and coverage: all of a commit, or none of it.

Rows travel as lists; one MERGE tells new, changed and unchanged facts apart, and an unchanged fact is not written.
"""

import hashlib
import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import NamedTuple

from sqlalchemy import Connection, text

from etl.records import Belief, Cut, Fact, Filter, Finding, Lesson, Reading, Revision, Unknown, Verdict
from etl.warehouse.engine import merge_action
from etl.warehouse.lists import lists, unnested


class DayRow(NamedTuple):
    """Coverage of one day: its verdict and status (failed, missing, open or final)."""

    verdict: Verdict
    status: str

    @property
    def columns(self) -> tuple[object, ...]:
        """The row, in the order of its table's columns."""
        verdict = self.verdict
        fetched_at = None if verdict.total_asked is None else naive(verdict.total_asked)
        return verdict.day, self.status, fetched_at, *verdict.total, *verdict.rest, verdict.explained, verdict.closed


class Learned(NamedTuple):
    """What an account's first readings show: its grid, the first of them that held the last hour of the day asked for, and
    what a member of each cut that cannot exist gives."""

    grid: int | None = None
    reaches_end: int | None = None
    lessons: Mapping[Cut, Lesson] = {}


@dataclass(frozen=True, slots=True)
class Batch:
    """What is loaded together. ``facts`` and ``revisions`` come with the day they are booked on, each key at most once.

    ``contradictions`` are the hours in which a cut's members exceed the total, under the cut's rest: what those members say
    together. They take the place of all that are held of the days ``contradicted``.
    """

    readings: tuple[Reading, ...] = ()
    facts: tuple[tuple[date, Fact], ...] = ()
    revisions: tuple[tuple[date, Revision], ...] = ()
    days: tuple[DayRow, ...] = ()
    contradictions: tuple[tuple[date, Fact], ...] = ()
    contradicted: tuple[date, ...] = ()
    beliefs: tuple[tuple[Filter, Belief, int | None], ...] = ()
    """A cut's member, what is thought of it from now on, and the reading that decided it (None: the user did)."""
    learned: Learned | None = None

    @property
    def filters(self) -> list[Filter]:
        """Every filter that a row is of, in the order they are met."""
        read = [reading.window.filter for reading in self.readings]
        return [*read, *(fact.filter for _, fact in (*self.facts, *self.contradictions))]


class Counts(NamedTuple):
    """Facts of totals and members that a commit inserted and changed; one that fell to nothing counts as changed.

    Rests are not counted: they follow from the others.
    """

    inserted: int = 0
    changed: int = 0


class Place(NamedTuple):
    """Whose rows are written, in which run."""

    account_id: int
    run: int


def naive(moment: datetime) -> datetime:
    """UTC without its zone, as columns hold it."""
    return moment.astimezone(UTC).replace(tzinfo=None)


def aware(moment: datetime) -> datetime:
    """A column's UTC with its zone, as the program thinks of it."""
    return moment.replace(tzinfo=UTC)


def write(connection: Connection, place: Place, batch: Batch, series: Mapping[Filter, int], at: datetime) -> Counts:
    """Writes a batch in the transaction of ``connection``; ``series`` holds a number for each of its filters."""
    _write_readings(connection, place, batch.readings, series, at)
    _write_revisions(connection, place, batch.revisions, series, at)
    counts = _write_facts(connection, place, batch.facts, series, at)
    _write_rejections(connection, place, batch.readings, series, at)
    write_days(connection, place.account_id, batch.days)
    _write_contradictions(connection, place, batch, series)
    _write_learned(connection, place, batch, at)
    return counts


# ---------------------------------------------------------------- rows from lists

def insert(
    connection: Connection, table: str, account_id: int, columns: Mapping[str, str], rows: Sequence[Sequence[object]]
) -> None:
    if rows:
        names = ", ".join(columns)
        connection.execute(
            text(f"insert into {table} (account_id, {names}) select :account_id, {names} from ({unnested(columns)}) as b"),
            {"account_id": account_id, **lists(columns, rows)},
        )


# ---------------------------------------------------------------- readings and their answers

_ANSWER = {"hash": "text", "body": "blob"}
_READING = {
    "reading": "number", "run": "number", "series_id": "number", "day": "day", "window_start": "time", "window_end": "time",
    "asked_at": "time", "committed_at": "time", "outcome": "text", "code": "text", "message": "text", "status": "number",
    "hash": "text",
}  # fmt: skip

_INSERT_ANSWERS = f"""
    insert into answers (account_id, hash, body)
    select :account_id, b.hash, b.body
      from ({unnested(_ANSWER)}) as b
     where not exists (select 1 from answers as a where a.account_id = :account_id and a.hash = b.hash)
"""


def _write_readings(
    connection: Connection, place: Place, readings: Sequence[Reading], series: Mapping[Filter, int], at: datetime
) -> None:
    bodies = {_hash(reading.body): reading.packed or pack(reading.body) for reading in readings if reading.status is not None}
    if bodies:
        rows = list(bodies.items())
        connection.execute(text(_INSERT_ANSWERS), {"account_id": place.account_id, **lists(_ANSWER, rows)})
    insert(
        connection,
        "readings",
        place.account_id,
        _READING,
        [
            (
                reading.number, place.run, series[reading.window.filter], reading.window.day, naive(reading.window.start),
                naive(reading.window.end), naive(reading.asked_at), naive(at), reading.outcome.value, reading.code, reading.message,
                reading.status, None if reading.status is None else _hash(reading.body),
            )
            for reading in readings
        ],
    )  # fmt: skip


def pack(body: bytes) -> bytes:
    """An answer's body as the warehouse keeps it."""
    return zlib.compress(body)


def _hash(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


REJECTION = {
    "reading": "number", "series_id": "number", "day": "day", "hour_start": "time", "reason": "text", "raw": "text",
    "seen_at": "time",
}  # fmt: skip


def _write_rejections(
    connection: Connection, place: Place, readings: Sequence[Reading], series: Mapping[Filter, int], at: datetime
) -> None:
    rows = [row for reading in readings for row in rejection_rows(reading, series, at)]
    insert(connection, "rejections", place.account_id, REJECTION, rows)


def rejection_rows(reading: Reading, series: Mapping[Filter, int], at: datetime) -> list[tuple[object, ...]]:
    """A reading's rejections as rows of ``REJECTION``; ``at`` is when the reading was committed."""
    return [
        (
            reading.number, series[reading.window.filter], reading.window.day,
            None if rejection.hour_start is None else naive(rejection.hour_start), rejection.reason, rejection.raw, naive(at),
        )
        for rejection in reading.rejections
    ]  # fmt: skip


# ---------------------------------------------------------------- facts, and what they were before

FACT = {"series_id": "number", "day": "day", "hour_start": "time", "volume": "number", "money": "money", "reading": "number"}

_MERGE_FACTS = f"""
    merge into facts as f
    using ({unnested({**FACT, "gone": "flag"})}) as b
       on f.account_id = :account_id and f.series_id = b.series_id and f.hour_start = b.hour_start
    when matched and b.gone then delete
    when matched and (f.volume <> b.volume or f.money <> b.money)
         then update set volume = b.volume, money = b.money, reading = b.reading, loaded_at = :at
    when not matched and not b.gone
         then insert (account_id, series_id, day, hour_start, volume, money, reading, loaded_at)
              values (:account_id, b.series_id, b.day, b.hour_start, b.volume, b.money, b.reading, :at)
    returning %s, f.series_id
"""


def _write_facts(
    connection: Connection, place: Place, facts: Sequence[tuple[date, Fact]], series: Mapping[Filter, int], at: datetime
) -> Counts:
    if not facts:
        return Counts()
    rows = [(*fact_row(fact, day, series), fact.leaves_nothing) for day, fact in facts]
    columns = {**FACT, "gone": "flag"}
    parameters = {"account_id": place.account_id, "at": naive(at), **lists(columns, rows)}
    rests = {number for filter, number in series.items() if filter.is_rest}
    done = connection.execute(text(_MERGE_FACTS % merge_action(connection)), parameters).all()
    actions = [action for action, number in done if number not in rests]
    inserted = actions.count("INSERT")
    return Counts(inserted, len(actions) - inserted)


def fact_row(fact: Fact, day: date, series: Mapping[Filter, int]) -> tuple[object, ...]:
    """A fact as a row of ``FACT``."""
    return series[fact.filter], day, naive(fact.hour_start), fact.volume, fact.money, fact.reading


REVISION = {
    "series_id": "number", "day": "day", "hour_start": "time", "volume_before": "number", "money_before": "money",
    "volume_after": "number", "money_after": "money", "cause": "text", "reading": "number",
}  # fmt: skip

_INSERT_REVISIONS = f"""
    insert into revisions (account_id, {", ".join(REVISION)}, loaded_before, reading_before, seen_at)
    select :account_id, {", ".join(f"b.{name}" for name in REVISION)}, f.loaded_at, f.reading, :at
      from ({unnested(REVISION)}) as b
      left join facts as f
        on f.account_id = :account_id and f.series_id = b.series_id and f.hour_start = b.hour_start
"""


def _write_revisions(
    connection: Connection, place: Place, revisions: Sequence[tuple[date, Revision]], series: Mapping[Filter, int], at: datetime
) -> None:
    """Before the facts are merged: what they held, and since when, is read from them in the same statement."""
    if revisions:
        rows = [revision_row(row, day, series) for day, row in revisions]
        parameters = {"account_id": place.account_id, "at": naive(at), **lists(REVISION, rows)}
        connection.execute(text(_INSERT_REVISIONS), parameters)


def revision_row(row: Revision, day: date, series: Mapping[Filter, int]) -> tuple[object, ...]:
    """A revision as a row of ``REVISION``."""
    return series[row.filter], day, naive(row.hour_start), *row.before, *row.after, row.cause.value, row.reading


# ---------------------------------------------------------------- coverage, contradictions and beliefs

DAY = {
    "day": "day", "status": "text", "fetched_at": "time", "volume": "number", "money": "money", "unattributed_volume": "number",
    "unattributed_money": "money", "explained": "flag", "closed": "flag",
}  # fmt: skip

_MERGE_DAYS = f"""
    merge into days as d
    using ({unnested(DAY)}) as b
       on d.account_id = :account_id and d.day = b.day
    when matched then update set {", ".join(f"{name} = b.{name}" for name in DAY if name != "day")}
    when not matched then insert (account_id, {", ".join(DAY)}) values (:account_id, {", ".join(f"b.{name}" for name in DAY)})
"""


def write_days(connection: Connection, account_id: int, days: Sequence[DayRow]) -> None:
    """Coverage as it stands now; each day at most once."""
    if days:
        connection.execute(text(_MERGE_DAYS), {"account_id": account_id, **lists(DAY, [row.columns for row in days])})


_FORGET_CONTRADICTIONS = """
    delete from contradictions
     where account_id = :account_id and day in (select unnest(cast(:days as date[])))
"""


def _write_contradictions(connection: Connection, place: Place, batch: Batch, series: Mapping[Filter, int]) -> None:
    if batch.contradicted:
        parameters = {"account_id": place.account_id, "days": list(batch.contradicted)}
        connection.execute(text(_FORGET_CONTRADICTIONS), parameters)
    rows = [fact_row(fact, day, series) for day, fact in batch.contradictions]
    insert(connection, "contradictions", place.account_id, FACT, rows)


_NAME = {"cut": "text", "member": "text", "belief": "text", "reading": "number", "decided_at": "time"}
_LESSON = {"cut": "text", "gives": "text", "code": "text", "decided_at": "time"}


class Thought(NamedTuple):
    """What was thought of a filter from a moment on, and the reading that decided it (None: a person did)."""

    since: datetime
    filter: Filter
    belief: Belief
    reading: int | None


def thoughts_held(connection: Connection, account_id: int) -> list[Thought]:
    """What was ever thought of filters, in the order of time: the latest of a filter holds."""
    rows = connection.execute(
        text(
            "select cut, member, belief, reading, decided_at from names where account_id = :a "
            "order by decided_at, reading nulls first"
        ),
        {"a": account_id},
    )
    return [Thought(aware(at), Filter(Cut(cut), member), Belief(belief), reading) for cut, member, belief, reading, at in rows]


def write_beliefs(
    connection: Connection, account_id: int, beliefs: Iterable[tuple[Filter, Belief, int | None]], at: datetime
) -> None:
    """Adds what is thought of filters from now on."""
    rows = [(filter.cut.value, filter.member, belief.value, reading, naive(at)) for filter, belief, reading in beliefs]
    insert(connection, "names", account_id, _NAME, rows)


def last_commit(connection: Connection, account_id: int) -> datetime | None:
    """When the account's newest rows were committed; None: nothing was yet."""
    last = connection.execute(text(_LAST_COMMIT), {"a": account_id}).scalar_one()
    return None if last is None else aware(last)


def commit_time(now: datetime, last: datetime | None) -> datetime:
    """The time of a commit made now: never that of an earlier one or before it, even when the clock jumps."""
    return now if last is None else max(now, last + timedelta(microseconds=1))


_LAST_COMMIT = """
    select greatest((select max(committed_at) from readings  where account_id = :a),
                    (select max(seen_at)      from revisions where account_id = :a),
                    (select max(decided_at)   from names     where account_id = :a),
                    (select max(decided_at)   from lessons   where account_id = :a))
"""


def _write_learned(connection: Connection, place: Place, batch: Batch, at: datetime) -> None:
    write_beliefs(connection, place.account_id, batch.beliefs, at)
    if batch.learned:
        me = {"account_id": place.account_id}
        connection.execute(
            text("update accounts set grid_seconds = :grid, reaches_end = :reaches_end where account_id = :account_id"),
            {**me, "grid": batch.learned.grid, "reaches_end": batch.learned.reaches_end},
        )
        write_lessons(connection, place.account_id, batch.learned.lessons, at)


def lessons_held(connection: Connection, account_id: int) -> list[tuple[datetime, Cut, Lesson]]:
    """Every lesson with the moment since when it holds, the latest last."""
    rows = connection.execute(
        text("select decided_at, cut, gives, code from lessons where account_id = :a order by decided_at"), {"a": account_id}
    )
    return [(aware(at), Cut(cut), Lesson(Unknown(gives), code)) for at, cut, gives, code in rows]


def write_lessons(connection: Connection, account_id: int, lessons: Mapping[Cut, Lesson], at: datetime) -> None:
    """Adds those that are news."""
    held = {cut: lesson for _, cut, lesson in lessons_held(connection, account_id)}
    news = [(cut, lesson) for cut, lesson in lessons.items() if held.get(cut) != lesson]
    rows = [(cut.value, lesson.gives.value, lesson.code, naive(at)) for cut, lesson in news]
    insert(connection, "lessons", account_id, _LESSON, rows)


# ---------------------------------------------------------------- findings

_FINDING = {
    "run": "number", "check_name": "text", "severity": "text", "day": "day", "queue": "text", "message": "text", "seen_at": "time",
}  # fmt: skip


def write_findings(connection: Connection, place: Place, findings: Sequence[Finding], at: datetime) -> None:
    """What a person should know about the numbers, kept with the run that saw it."""
    rows = [(place.run, row.check, row.severity.value, row.day, row.queue, row.message, naive(at)) for row in findings]
    insert(connection, "findings", place.account_id, _FINDING, rows)
