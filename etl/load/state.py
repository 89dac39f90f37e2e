"""The tables that remember: whose key it is, what is held, and one row for every run."""

import hashlib
import secrets
import threading
import zlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from datetime import date, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, RowMapping, text

from etl.errors import UsageError, WarehouseError
from etl.load.rebuild import Found, RebuiltDay, rebuild, series_keys
from etl.load.upsert import (
    Batch,
    CoverageRow,
    Environment,
    LoadCounts,
    MemberStatusChange,
    commit_time,
    from_db_utc,
    last_commit,
    load_member_statuses,
    load_unknown_name_behaviours,
    to_db_utc,
    write,
    write_days,
    write_findings,
)
from etl.models import (
    TOTAL,
    Breakdown,
    DayState,
    Dimension,
    Fact,
    Finding,
    Measures,
    MemberStatus,
    Outcome,
    Secret,
    SeriesKey,
    UnknownNameBehaviour,
    Window,
)
from etl.warehouse.duckdb import PUT_BACK
from etl.warehouse.engine import name_of, take_turns

ACTIVITY_WINDOW = timedelta(days=31)
"""Spells are looked up this far around the days that need a visit."""


# ---------------------------------------------------------------- accounts


@dataclass(frozen=True, slots=True)
class Account:
    """One account as the warehouse knows it. ``since`` was asked for with ``--since`` and is remembered."""

    account_id: int
    name: str
    since: date | None
    grid: int | None
    reaches_end: int | None
    answers_since: date | None
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour]


_numbering = threading.Lock()
"""Of accounts that are new at once in this process, each takes the next number; other processes take turns at the database."""


def open_account(connection: Connection, name: str, key: Secret, now: datetime, key_changed: bool = False) -> Account:
    """The account ``name``, made when it is new.

    Raises UsageError for a key that is not the one the account was loaded with, or that another account has.
    """
    with connection.begin():
        own = _own(connection, name)
        if own is not None and _has_key(own, key):
            return _account(connection, own)
    with _numbering, connection.begin():
        take_turns(connection)  # or two new accounts would get one number, or one key two names
        own = _own(connection, name)
        if (
            own is not None
            and not key_changed
            and connection.execute(text(_HAS_HISTORY), {"a": own["account_id"]}).scalar_one()
        ):
            raise UsageError(
                f"this is not the key that account {name} was loaded with; nothing was asked",
                "name its account with --account NAME, or say --key-changed if you rotated the key",
            )
        others = (
            connection.execute(text("select * from internal.accounts where name <> :name"), {"name": name})
            .mappings()
            .all()
        )
        hashes = {salt: hash_key(key, salt) for salt in {bytes(row["key_salt"]) for row in others}}
        if other := next(
            (row["name"] for row in others if hashes[bytes(row["key_salt"])] == bytes(row["key_hash"])), None
        ):
            raise UsageError(
                f"this key belongs to account {other}, not to {name}; loaded twice, its money would count twice",
                f"say --account {other}, or give {name} its own key",
            )
        salt = max(
            hashes, default=secrets.token_bytes(16)
        )  # of others, so that the next account costs one hash, not one each
        parameters = {
            "name": name,
            "salt": salt,
            "hash": hashes.get(salt) or hash_key(key, salt),
            "now": to_db_utc(now),
        }
        if own is not None:
            connection.execute(
                text("update internal.accounts set key_salt = :salt, key_hash = :hash where name = :name"), parameters
            )
            return _account(connection, own)
        number = connection.execute(text("select coalesce(max(account_id), 0) + 1 from internal.accounts")).scalar_one()
        connection.execute(text(_NEW_ACCOUNT), {"number": number, **parameters})
        return Account(number, name, None, None, reaches_end=None, answers_since=None, unknown_name_behaviours={})


def _own(connection: Connection, name: str) -> RowMapping | None:
    return (
        connection.execute(text("select * from internal.accounts where name = :name"), {"name": name})
        .mappings()
        .one_or_none()
    )


def find_account(engine: Engine, name: str) -> Account | None:
    """The account ``name``, without a key; None when nothing was loaded for it."""
    with engine.connect() as connection:
        row = (
            connection.execute(text("select * from internal.accounts where name = :name"), {"name": name})
            .mappings()
            .one_or_none()
        )
        return None if row is None else _account(connection, row)


def last_completed_syncs(engine: Engine) -> dict[str, datetime]:
    """When the last sync of each account ended that came to its end; those that never had one are left out."""
    with engine.connect() as connection:
        return {name: from_db_utc(at) for name, at in connection.execute(text(_LAST_FINISHED))}


def save_since(connection: Connection, account: Account, since: date | None) -> Account:
    """Keeps what ``--since`` asked for, until another is given; None: everything."""
    with connection.begin():
        parameters = {"since": since, "a": account.account_id}
        connection.execute(text("update internal.accounts set since = :since where account_id = :a"), parameters)
    return replace(account, since=since)


def _has_key(row: RowMapping, key: Secret) -> bool:
    return secrets.compare_digest(hash_key(key, bytes(row["key_salt"])), bytes(row["key_hash"]))


def hash_key(key: Secret, salt: bytes) -> bytes:
    """scrypt: slow on purpose (about 50 ms), so that a stolen warehouse does not give the key away."""
    return hashlib.scrypt(key.get_secret_value().encode(), salt=salt, n=2**14, r=8, p=1)


def _account(connection: Connection, row: RowMapping) -> Account:
    return Account(
        account_id=row["account_id"],
        name=row["name"],
        since=row["since"],
        grid=row["hour_offset_seconds"],
        reaches_end=row["full_day_from_snapshot"],
        answers_since=row["raw_kept_from"],
        unknown_name_behaviours={
            dimension: unknown_name_behaviour
            for _, dimension, unknown_name_behaviour in load_unknown_name_behaviours(connection, row["account_id"])
        },
    )


# ---------------------------------------------------------------- what is held


@dataclass(frozen=True, slots=True)
class StoredSnapshot:
    """A snapshot as its row tells it, with its answer's body; ``body`` is None when nothing came, or it is not kept any more, or
    is not what its hash says."""

    number: int
    window: Window
    requested_at: datetime
    committed_at: datetime
    outcome: Outcome
    code: str
    message: str
    status: int | None
    body: bytes | None

    @property
    def is_raw_missing(self) -> bool:
        """Whether an answer came that may have held records, and is not kept any more."""
        return self.body is None and self.status is not None and self.outcome is not Outcome.REFUSED


@dataclass(frozen=True, slots=True)
class Coverage:
    """Days as their rows tell them: verdicts without hours; and what is thought of the members of cuts.

    ``trusted_by_user`` are believed only because the user said so. Answers of ``frozen`` days are not kept any more: such a day cannot
    be folded again.
    """

    known: dict[date, DayState]
    final: frozenset[date]
    frozen: frozenset[date]
    member_statuses: dict[SeriesKey, MemberStatus]
    trusted_by_user: frozenset[SeriesKey]


class SyncStateStore:
    """Reads and writes one account's rows. Between calls no lock is held on the warehouse."""

    def __init__(self, engine: Engine, account: Account, now: Callable[[], datetime]) -> None:
        self.account = account
        self._engine = engine
        self._now = now
        self._series: dict[SeriesKey, int] = {}
        self._last_commit: datetime | None = None
        self.was_sound = False
        """Whether the run before the one that was started looked at the numbers, as this version does, and found them right."""
        self._place = Environment(account.account_id, 0)
        self._shared: Connection | None = None

    # -- reading

    @contextmanager
    def through(self, connection: Connection) -> Iterator[None]:
        """What is asked meanwhile goes through one opening of the warehouse, which costs more than a question."""
        self._shared = connection
        try:
            yield
        finally:
            self._shared = None

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        if self._shared is not None:
            yield self._shared
        else:
            with self._engine.connect() as connection:
                yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        if self._shared is not None:
            self._shared.commit()  # of what was only read
            with self._shared.begin():
                yield self._shared
        else:
            with self._engine.begin() as connection:
                yield connection

    def coverage(self, dimensions: Collection[Dimension]) -> Coverage:
        """Every day asked for, from its row, and what is thought of the members of cuts.

        A final day says which queues were asked if they do not explain it, and which members of ``dimensions`` in any case.
        """
        asked: dict[date, dict[SeriesKey, datetime]] = defaultdict(dict)
        unattributed_by_hour: dict[date, set[Dimension]] = defaultdict(set)
        is_over_allocated: dict[date, set[Dimension]] = defaultdict(set)
        with self._reading() as connection:
            rows = connection.execute(text(_DAYS), self._me).mappings().all()
            member_status_history = load_member_statuses(connection, self.account.account_id)
            parameters = {**self._me, "cuts": sorted(dimensions)}
            answers = connection.execute(text(_ASKED_ON_FINAL_DAYS), parameters).all()
            for day, dimension in connection.execute(text(_CONTRADICTED), self._me):
                is_over_allocated[day].add(Dimension(dimension))
            if dimensions:
                for day, dimension in connection.execute(text(_RESTS), parameters):
                    unattributed_by_hour[day].add(Dimension(dimension))
        for day, dimension, member, at in answers:
            asked[day][SeriesKey(Dimension(dimension), member)] = from_db_utc(at)
        thought = {thought.series: thought for thought in member_status_history}
        final = frozenset(row["day"] for row in rows if row["status"] == "final")
        since = self.account.answers_since
        return Coverage(
            known={
                row["day"]: _verdict(
                    row, asked[row["day"]], unattributed_by_hour[row["day"]], is_over_allocated[row["day"]]
                )
                for row in rows
            },
            final=final,
            frozen=frozenset(day for day in final if since and day < since and not is_over_allocated[day]),
            member_statuses={series: now.member_status for series, now in thought.items()},
            trusted_by_user=frozenset(
                series
                for series, now in thought.items()
                if now.member_status is MemberStatus.VERIFIED and now.snapshot is None
            ),
        )

    def snapshots(self, days: Iterable[date]) -> list[StoredSnapshot]:
        """All readings of some days with their answers, in the order of their numbers."""
        wanted = sorted(days)
        if not wanted:
            return []
        with self._reading() as connection:
            rows = connection.execute(text(_READINGS_OF_DAYS), {**self._me, "days": wanted}).mappings()
            return [
                StoredSnapshot(
                    number=row["snapshot_id"],
                    window=Window(
                        self.account.name,
                        SeriesKey(Dimension(row["dimension"]), row["member"]),
                        row["day"],
                        from_db_utc(row["window_start"]),
                        from_db_utc(row["window_end"]),
                    ),
                    requested_at=from_db_utc(row["requested_at"]),
                    committed_at=from_db_utc(row["committed_at"]),
                    outcome=Outcome(row["outcome"]),
                    code=row["code"],
                    message=row["message"],
                    status=row["status"],
                    body=_body(row["body"], row["hash"]),
                )
                for row in rows
            ]

    def facts(self, days: Iterable[date]) -> dict[date, list[Fact]]:
        """The facts of some days, as believed now."""
        wanted = sorted(days)
        if not wanted:
            return {}
        stored: dict[date, list[Fact]] = {}
        with self._reading() as connection:
            for row in connection.execute(text(_FACTS_OF_DAYS), {**self._me, "days": wanted}):
                fact = Fact(
                    SeriesKey(Dimension(row.dimension), row.member),
                    from_db_utc(row.hour_start),
                    row.volume,
                    row.money,
                    row.snapshot_id,
                )
                stored.setdefault(row.day, []).append(fact)
        return stored

    def spending(self, days: Iterable[date]) -> list[tuple[SeriesKey, date, Measures]]:
        """What the members of all cuts spent on days around some days, in the order of days."""
        found: list[tuple[SeriesKey, date, Measures]] = []
        with self._reading() as connection:
            for first, last in _stretches(days):
                found += _spent(connection.execute(text(_SPENDING), {**self._me, "first": first, "last": last}))
        return found

    def last_spending(self) -> list[tuple[SeriesKey, date, Measures]]:
        """The last day on which each queue had tasks that cost money, and what it spent that day."""
        with self._reading() as connection:
            return _spent(connection.execute(text(_LAST_SPENDING), {**self._me, "dimension": Dimension.QUEUE.value}))

    def days_with_members(self, series_keys: Iterable[SeriesKey]) -> list[date]:
        """Days on which one of some members was answered."""
        wanted = sorted(series_keys)
        with self._reading() as connection:
            parameters = {
                **self._me,
                "cuts": [series.dimension for series in wanted],
                "members": [series.member for series in wanted],
            }
            return list(connection.execute(text(_DAYS_ASKED_FOR), parameters).scalars())

    def member_status_history(self) -> list[MemberStatusChange]:
        """What was ever thought of filters, in the order of time."""
        with self._reading() as connection:
            return load_member_statuses(connection, self.account.account_id)

    def unknown_name_behaviours(self) -> list[tuple[datetime, Dimension, UnknownNameBehaviour]]:
        """Every lesson with the moment since when it holds, in the order of time."""
        with self._reading() as connection:
            return load_unknown_name_behaviours(connection, self.account.account_id)

    def statuses(self) -> dict[date, str | None]:
        """Days that were ever asked for, each with its status; and those of facts on a day that never was: None."""
        with self._reading() as connection:
            astray: dict[date, str | None] = dict.fromkeys(connection.execute(text(_DAYS_ASTRAY), self._me).scalars())
            return astray | {row["day"]: row["status"] for row in connection.execute(text(_DAYS), self._me).mappings()}

    # -- writing

    @property
    def run(self) -> int:
        """The number of the run that was started; 0 before."""
        return self._place.run

    def rebuild(self, days: Sequence[RebuiltDay]) -> Found:
        """Makes the rows of some days what their history says, in one transaction."""
        with self._writing() as connection:
            self._series = self._numbered(connection, series_keys(days))
            return rebuild(connection, self.account.account_id, days, self._series)

    def start_run(self, command: str, version: str, first: date, missing: Sequence[date]) -> int:
        """Makes the run's row, and those of days missing from a history that begins on ``first``.

        Returns the number of the next snapshot. Raises WarehouseError where readings or runs are there twice or gone.
        """
        with self._writing() as connection:
            series = connection.execute(
                text("select series_id, dimension, member from internal.series where account_id = :a"), self._me
            )
            self._series = {SeriesKey(Dimension(dimension), member): number for number, dimension, member in series}
            run, snapshot, is_whole = connection.execute(text(_NEXT), self._me).one()
            if not is_whole:
                raise WarehouseError(
                    f"{name_of(self._engine.url)} is of two states: readings or runs of account {self.account.name} are gone or "
                    "there twice, as when a restored file finds the log (.wal) of another beside it; nothing was asked",
                    PUT_BACK,
                )
            self._last_commit = last_commit(connection, self.account.account_id)
            self.was_sound = connection.execute(text(_WAS_SOUND), {**self._me, "version": version}).scalar_one()
            connection.execute(
                text(_START_RUN),
                {**self._me, "run": run, "command": command, "version": version, "now": to_db_utc(self._now())},
            )
            connection.execute(text(_FORGET_MISSING), {**self._me, "first": first})
            write_days(connection, self.account.account_id, [CoverageRow(DayState(day), "missing") for day in missing])
        self._place = Environment(self.account.account_id, run)
        return int(snapshot)

    @contextmanager
    def open(self) -> Iterator[Callable[[Batch], LoadCounts]]:
        """Opens the warehouse for some commits; as long as it is open, no other program can have the file."""
        with self._engine.connect() as connection:
            yield lambda batch: self._commit(connection, batch)

    def _commit(self, connection: Connection, batch: Batch) -> LoadCounts:
        """One transaction: rows and the note that they are loaded, together."""
        with connection.begin():
            at = commit_time(self._now(), self._last_commit)
            series = self._numbered(connection, batch.series_keys)
            counts = write(connection, self._place, batch, series, at)
        self._series, self._last_commit = series, at
        return counts

    def prune_raw_responses(self, before: date) -> None:
        """Drops the answers of final days before a day. Those that the snapshot of another day shares stay, and those of days
        that are asked again because their parts exceed the total."""
        with self._writing() as connection:
            parameters = {**self._me, "before": before}
            connection.execute(text(_DROP_ANSWERS), parameters)
            connection.execute(
                text(
                    "update internal.accounts set raw_kept_from = greatest(:before, raw_kept_from) where account_id = :a"
                ),
                parameters,
            )

    def finish_run(self, exit_code: int, numbers: dict[str, int], findings: Sequence[Finding]) -> None:
        """Closes the run's row and keeps its findings."""
        numbers = {"out_of_window" if name == "outside" else name: number for name, number in numbers.items()}
        with self._engine.begin() as connection:
            columns = ", ".join(f"{name} = :{name}" for name in numbers)
            connection.execute(
                text(
                    f"update internal.runs set ended_at = :now, exit_code = :exit_code, {columns} where account_id = :a and run = :run"
                ),
                {**self._me, "run": self._place.run, "now": to_db_utc(self._now()), "exit_code": exit_code, **numbers},
            )
            write_findings(connection, self._place, findings, self._now())

    def _numbered(self, connection: Connection, met: Iterable[SeriesKey]) -> dict[SeriesKey, int]:
        """Series numbers, with those of filters met for the first time."""
        new = [series for series in dict.fromkeys(met) if series not in self._series]
        if not new:
            return self._series
        first = max(self._series.values(), default=0) + 1
        added = {series: first + place for place, series in enumerate(new)}
        for series, number in added.items():
            connection.execute(
                text(
                    "insert into internal.series (account_id, series_id, dimension, member) values (:a, :number, :dimension, :member)"
                ),
                {**self._me, "number": number, "dimension": series.dimension.value, "member": series.member},
            )
        return {**self._series, **added}

    @property
    def _me(self) -> dict[str, object]:
        return {"a": self.account.account_id}


def _body(kept: bytes | None, hash: str | None) -> bytes | None:
    """An answer as it came; None when it is not kept, or is not the one that came any more."""
    if kept is None:
        return None
    with suppress(zlib.error):
        body = zlib.decompress(kept)
        return body if hashlib.sha256(body).hexdigest() == hash else None
    return None


def _verdict(
    row: RowMapping,
    asked: Mapping[SeriesKey, datetime],
    unattributed_by_hour: Set[Dimension],
    is_over_allocated: Set[Dimension],
) -> DayState:
    """A day's row as a verdict without hours."""
    told = {series.dimension for series in asked} | is_over_allocated
    breakdowns = {
        dimension: Breakdown(
            is_explained=dimension not in unattributed_by_hour | is_over_allocated,
            is_over_allocated=dimension in is_over_allocated,
        )
        for dimension in told
    }
    unattributed = Measures(row["unattributed_volume"], row["unattributed_money"])
    return DayState(
        day=row["day"],
        total=Measures(row["volume"], row["money"]),
        total_requested_at=None if row["fetched_at"] is None else from_db_utc(row["fetched_at"]),
        is_closed=row["is_closed"],
        breakdowns={
            **breakdowns,
            Dimension.QUEUE: Breakdown(unattributed, row["is_explained"], Dimension.QUEUE in is_over_allocated),
        },
        failed=frozenset({TOTAL}) if row["status"] == "failed" else frozenset(),
        asked=asked,
    )


def _spent(rows: Iterable[Row[Any]]) -> list[tuple[SeriesKey, date, Measures]]:
    return [
        (SeriesKey(Dimension(dimension), member), day, Measures(volume, money))
        for dimension, member, day, volume, money in rows
    ]


def _stretches(days: Iterable[date]) -> list[tuple[date, date]]:
    """The neighbourhoods of some days, joined where they touch."""
    stretches: list[tuple[date, date]] = []
    for day in sorted(days):
        first, last = day - ACTIVITY_WINDOW, day + ACTIVITY_WINDOW
        if stretches and first <= stretches[-1][1]:
            stretches[-1] = (stretches[-1][0], last)
        else:
            stretches.append((first, last))
    return stretches


_LAST_FINISHED = """
    select a.name, max(r.ended_at)
      from internal.runs     as r
      join internal.accounts as a on a.account_id = r.account_id
     where r.command = 'sync' and r.exit_code in (0, 1, 5)
     group by a.name
"""

_HAS_HISTORY = """
    select count(*) > 0
      from internal.snapshots
     where account_id = :a and outcome = 'success'
"""

_NEW_ACCOUNT = """
    insert into internal.accounts (account_id, name, key_salt, key_hash, created_at)
    values (:number, :name, :salt, :hash, :now)
"""

_ASKED_ON_FINAL_DAYS = """
    select r.day, s.dimension, s.member, max(r.requested_at)
      from internal.snapshots as r
      join internal.series   as s on s.account_id = r.account_id and s.series_id = r.series_id
      join internal.day_coverage     as d on d.account_id = r.account_id and d.day       = r.day
     where r.account_id = :a and r.outcome = 'success' and d.status = 'final'
       and ((s.dimension = 'queue' and not d.is_explained) or s.dimension in (select unnest(cast(:cuts as text[]))))
     group by r.day, s.dimension, s.member
"""

_RESTS = """
    select distinct h.day, h.dimension
      from (select f.day, s.dimension, count(s.member)                                           as members,
                   sum(case when s.member is null then f.volume else 0 end)      as volume,
                   sum(case when s.member is null then abs(f.money) else 0 end)  as money
              from internal.facts  as f
              join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
             where f.account_id = :a and s.dimension in (select unnest(cast(:cuts as text[])))
             group by f.day, s.dimension, f.hour_start) as h
     where h.volume <> 0 or h.money > 0.000001 * (h.members + 1)
"""

_CONTRADICTED = """
    select distinct c.day, s.dimension
      from internal.over_allocated_hours as c
      join internal.series         as s on s.account_id = c.account_id and s.series_id = c.series_id
      join internal.day_coverage           as d on d.account_id = c.account_id and d.day       = c.day
     where c.account_id = :a and d.is_closed
"""

_READINGS_OF_DAYS = """
    select r.*, s.dimension, s.member, a.body
      from internal.snapshots as r
      join internal.series   as s on s.account_id = r.account_id and s.series_id = r.series_id
      left join internal.responses as a on a.account_id = r.account_id and a.hash = r.hash
     where r.account_id = :a and r.day in (select unnest(cast(:days as date[])))
     order by r.snapshot_id
"""

_FACTS_OF_DAYS = """
    select f.day, s.dimension, s.member, f.hour_start, f.volume, f.money, f.snapshot_id
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and f.day in (select unnest(cast(:days as date[])))
"""

_SPENDING = """
    select s.dimension, s.member, f.day, cast(sum(f.volume) as bigint), cast(sum(f.money) as decimal(18, 9))
      from internal.facts  as f
      join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
     where f.account_id = :a and s.member is not null and f.day between :first and :last
     group by s.dimension, s.member, f.day
     order by f.day
"""

_LAST_SPENDING = """
    with latest as (
        select f.series_id, max(f.day) as day
          from internal.facts  as f
          join internal.series as s on s.account_id = f.account_id and s.series_id = f.series_id
         where f.account_id = :a and s.dimension = :dimension and s.member is not null and f.volume > 0 and f.money > 0
         group by f.series_id
    )
    select s.dimension, s.member, f.day, cast(sum(f.volume) as bigint), cast(sum(f.money) as decimal(18, 9))
      from latest as l
      join internal.facts  as f on f.account_id = :a and f.series_id = l.series_id and f.day = l.day
      join internal.series as s on s.account_id = :a and s.series_id = l.series_id
     group by s.dimension, s.member, f.day
"""

_DAYS_ASKED_FOR = """
    select distinct r.day
      from internal.snapshots as r
      join internal.series   as s on s.account_id = r.account_id and s.series_id = r.series_id
     where r.account_id = :a and r.outcome in ('success', 'partial')
       and (s.dimension, s.member) in (select unnest(cast(:cuts as text[])), unnest(cast(:members as text[])))
     order by r.day desc
"""

_NEXT = """
    select (select coalesce(max(run), 0) + 1     from internal.runs     where account_id = :a) as run,
           (select coalesce(max(snapshot_id), 0) + 1 from internal.snapshots where account_id = :a) as snapshot_id,
           (select count(*) = coalesce(max(run), 0) and count(*) = count(distinct run)         from internal.runs     where account_id = :a)
       and (select count(*) = coalesce(max(snapshot_id), 0) and count(*) = count(distinct snapshot_id) from internal.snapshots where account_id = :a)
           as is_whole
"""

_WAS_SOUND = """
    select count(*) > 0
      from internal.runs
     where account_id = :a and command = 'sync' and version = :version and exit_code in (0, 1)
       and run = (select max(run) from internal.runs where account_id = :a)
"""

_DAYS = """
    select *
      from internal.day_coverage
     where account_id = :a and status <> 'missing'
     order by day
"""

_DAYS_ASTRAY = """
    select distinct f.day
      from internal.facts as f
     where f.account_id = :a and f.day not in (select d.day from internal.day_coverage as d where d.account_id = :a)
"""

_DROP_ANSWERS = """
    delete from internal.responses
     where account_id = :a
       and hash not in (select r.hash
                          from internal.snapshots as r
                          left join internal.day_coverage as d on d.account_id = r.account_id and d.day = r.day
                         where r.account_id = :a and r.hash is not null
                           and (r.day >= :before
                                or coalesce(d.status, '') <> 'final'
                                or r.day in (select c.day from internal.over_allocated_hours as c where c.account_id = :a)))
"""

_FORGET_MISSING = """
    delete from internal.day_coverage
     where account_id = :a and status = 'missing' and day < :first
"""

_START_RUN = """
    insert into internal.runs (account_id, run, command, version, started_at, requests, retries, windows_good, windows_failed, windows_left,
                      facts_inserted, facts_changed, facts_unchanged, rejections, out_of_window)
    values (:a, :run, :command, :version, :now, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
"""
