"""The sync state that a run reads, after earlier runs committed it."""

import threading
import zlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import count

import pytest
import sqlalchemy as sa

from etl.errors import UsageError
from etl.hour_values import FactValues
from etl.load import accounts as accounts_module
from etl.load.accounts import find_account, last_completed_syncs, open_account
from etl.load.state import SyncStateStore
from etl.load.stored_account import AccountTraits
from etl.load.upsert import Batch, CoverageRow, LoadCounts, NewFacts
from etl.models import (
    DAY,
    HOUR,
    TOTAL,
    ZERO_MEASURES,
    Breakdown,
    ChangeReason,
    DayState,
    Dimension,
    Fact,
    Measures,
    MemberStatus,
    Outcome,
    Revision,
    SeriesKey,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    Window,
    app,
    day_start,
    ip,
    queue,
)
from etl.money import to_nanodollars
from etl.secret import Secret
from etl.transform.reconcile import single_facts

pytestmark = pytest.mark.contract

MARCH = date(2026, 3, 14)
NOW = datetime(2026, 3, 20, 9, 30, tzinfo=UTC)


class AccountState:
    """The sync state of an account in a run, with short ways to write into it."""

    def __init__(self, engine: sa.Engine, name: str = "default") -> None:
        self.engine = engine
        with engine.connect() as connection:
            account = open_account(connection, name, Secret(f"{name}'s key"), NOW)
        self.store = SyncStateStore(engine, account, lambda: NOW)
        self.numbers = count(self.store.start_run("sync", "1", MARCH, []))

    @property
    def now(self) -> datetime:
        """As the warehouse stores it: UTC without a zone."""
        return NOW.replace(tzinfo=None)

    def commit(self, batch: Batch) -> LoadCounts:
        return self.store.commit(batch)

    def snapshot(self, series: SeriesKey, day: date, outcome: Outcome = Outcome.SUCCESS) -> Snapshot:
        window = Window.whole_day(self.store.account.name, series, day)
        return Snapshot(next(self.numbers), window, NOW, outcome)

    def requested(self, *series_keys: SeriesKey, day: date = MARCH, outcome: Outcome = Outcome.SUCCESS) -> None:
        self.commit(Batch(snapshots=tuple(self.snapshot(series, day, outcome) for series in series_keys)))

    def day(
        self, day: date = MARCH, status: str = "final", *, is_explained: bool = False, is_closed: bool = True
    ) -> None:
        breakdown = Breakdown(Measures(1, Decimal("0.5")), is_explained=is_explained)
        day_state = DayState(day, Measures(9, Decimal(2)), NOW, is_closed, {Dimension.QUEUE: breakdown})
        self.commit(Batch(days=(CoverageRow(day_state, status),)))

    def spend(self, series: SeriesKey, day: date, volume: int, money: str, hour: int = 0) -> None:
        self.commit(Batch(changed_facts=((day, fact(series, day, volume, money, hour)),)))

    def over_allocated_hours(self) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            sql = "select day, dimension, member, extract(hour from hour_start), volume, money, snapshot_id from internal.over_allocated_hours "
            joined = connection.exec_driver_sql(
                f"{sql} join internal.series using (account_id, series_id) order by day, hour_start"
            )
            return [tuple(row) for row in joined]


def fact(series: SeriesKey, day: date, volume: int, money: str, hour: int = 0) -> Fact:
    return Fact(series, day_start(day) + HOUR * hour, volume, to_nanodollars(Decimal(money)), 7)


@pytest.fixture
def state(warehouse: sa.Engine) -> AccountState:
    return AccountState(warehouse)


# ---------------------------------------------------------------- coverage


def test_a_final_day_with_unattributed_spend_has_its_requested_queues(state: AccountState) -> None:
    state.day()
    state.day(MARCH - DAY, is_explained=True)
    state.day(MARCH - 2 * DAY, "open")
    for back in range(3):
        state.requested(TOTAL, queue("A"), app("7"), day=MARCH - DAY * back)
    state.requested(queue("B"), outcome=Outcome.API_ERROR)
    known = state.store.coverage(()).known
    assert [dict(known[MARCH - DAY * back].requested_at) for back in range(3)] == [{queue("A"): NOW}, {}, {}]
    assert known[MARCH].breakdowns == {Dimension.QUEUE: Breakdown(Measures(1, Decimal("0.5")))}
    assert known[MARCH - DAY].is_explained
    assert known[MARCH].total == Measures(9, Decimal(2))


def test_final_days_have_the_requested_members_of_the_given_dimensions(state: AccountState) -> None:
    for back, status in enumerate(("final", "final", "open", "final")):
        state.day(MARCH - DAY * back, status, is_explained=True)
    for back in range(3):
        state.requested(app("7"), ip("192.0.2.10"), day=MARCH - DAY * back)
    state.requested(app("8"), outcome=Outcome.API_ERROR)
    state.spend(SeriesKey(Dimension.APP, None), MARCH - DAY, 1, "0.1")
    state.spend(SeriesKey(Dimension.QUEUE, None), MARCH, 1, "0.1")
    state.spend(SeriesKey(Dimension.IP, None), MARCH, 1, "0.1")
    known = state.store.coverage([Dimension.APP]).known
    days = [known[MARCH - DAY * back] for back in range(4)]
    assert [dict(day.requested_at) for day in days] == [{app("7"): NOW}, {app("7"): NOW}, {}, {}]
    assert [day.breakdowns.get(Dimension.APP) for day in days] == [
        Breakdown(is_explained=True),
        Breakdown(),
        None,
        None,
    ]
    both = state.store.coverage([Dimension.IP, Dimension.APP]).known[MARCH]
    assert set(both.requested_at) == {app("7"), ip("192.0.2.10")}
    assert (both.breakdown(Dimension.APP).is_explained, both.breakdown(Dimension.IP).is_explained) == (True, False)


def test_a_closed_day_has_its_over_allocated_dimensions(state: AccountState) -> None:
    unattributed = [SeriesKey(Dimension.QUEUE, None), SeriesKey(Dimension.IP, None)]
    for back, is_closed in enumerate((True, False, True)):
        day = MARCH - DAY * back
        state.day(day, is_closed=is_closed)
        if back < 2:
            row = CoverageRow(DayState(day, is_closed=is_closed), "final")
            state.commit(
                Batch(days=(row,), over_allocations=tuple((day, fact(series, day, 9, "9")) for series in unattributed))
            )
    known = state.store.coverage(()).known
    assert [known[MARCH - DAY * back].over_allocated_dimensions for back in range(3)] == [
        {Dimension.QUEUE, Dimension.IP},
        set(),
        set(),
    ]
    state.requested(ip("192.0.2.10"))
    assert state.store.coverage([Dimension.IP]).known[MARCH].breakdowns[Dimension.IP] == Breakdown(
        is_over_allocated=True
    )


def test_the_latest_status_of_each_member_of_each_dimension_applies(state: AccountState) -> None:
    state.commit(
        Batch(
            member_statuses=(
                (queue("7"), MemberStatus.UNVERIFIED, 1),
                (app("7"), MemberStatus.VERIFIED, None),
                (ip("7"), MemberStatus.RETIRED, 2),
            )
        )
    )
    state.commit(Batch(member_statuses=((queue("7"), MemberStatus.VERIFIED, 3),)))
    assert state.store.coverage(()).member_statuses == {
        queue("7"): MemberStatus.VERIFIED,
        app("7"): MemberStatus.VERIFIED,
        ip("7"): MemberStatus.RETIRED,
    }


# ---------------------------------------------------------------- over-allocated hours


def test_over_allocated_hours_replace_the_stored_ones_of_the_given_days_only(state: AccountState) -> None:
    yesterday, unattributed = MARCH - DAY, SeriesKey(Dimension.QUEUE, None)
    rows = (CoverageRow(DayState(MARCH), "open"), CoverageRow(DayState(yesterday), "open"))
    hours = [
        fact(unattributed, MARCH, 3, "0.3", 1),
        fact(unattributed, MARCH, 4, "0.4", 2),
        fact(unattributed, yesterday, 5, "0.5"),
    ]
    state.commit(Batch(days=rows, over_allocations=tuple((hour.hour_start.date(), hour) for hour in hours)))
    other = AccountState(state.engine, "other")
    other.commit(Batch(days=rows, over_allocated_days=(MARCH, yesterday)))
    state.commit(Batch(changed_facts=((MARCH, fact(queue("A"), MARCH, 1, "1")),)))
    assert [row[3] for row in state.over_allocated_hours()] == [0, 1, 2]
    state.commit(
        Batch(
            days=rows[:1],
            over_allocations=((MARCH, fact(unattributed, MARCH, 6, "0.6", 2)),),
            over_allocated_days=(MARCH,),
        )
    )
    assert state.over_allocated_hours() == [
        (yesterday, "queue", None, 0, 5, Decimal("0.5"), 7),
        (MARCH, "queue", None, 2, 6, Decimal("0.6"), 7),
    ]
    state.commit(Batch(days=rows))
    assert len(state.over_allocated_hours()) == 2
    state.commit(Batch(over_allocated_days=(MARCH, yesterday)))
    assert state.over_allocated_hours() == []


# ---------------------------------------------------------------- spending


def test_spending_has_the_members_of_all_dimensions_per_day(state: AccountState) -> None:
    for series in (
        TOTAL,
        SeriesKey(Dimension.QUEUE, None),
        SeriesKey(Dimension.APP, None),
        queue("7"),
        app("7"),
        ip("192.0.2.10"),
    ):
        state.spend(series, MARCH, 2, "0.2", 1)
        state.spend(series, MARCH, 1, "0.000000001", 2)
    state.spend(queue("7"), MARCH - DAY, 5, "0.5")
    state.spend(queue("7"), MARCH - 40 * DAY, 5, "0.5")
    spent = state.store.spending([MARCH])
    assert spent[0] == (queue("7"), MARCH - DAY, Measures(5, Decimal("0.5")))
    whole = Measures(3, Decimal("0.200000001"))
    assert sorted(spent[1:]) == [(app("7"), MARCH, whole), (ip("192.0.2.10"), MARCH, whole), (queue("7"), MARCH, whole)]


def test_the_last_spending_of_a_queue_is_its_last_day_with_a_price(state: AccountState) -> None:
    AccountState(state.engine, "other").spend(queue("A"), MARCH, 9, "9")
    state.spend(queue("A"), MARCH - 9 * DAY, 9, "9")
    state.spend(queue("A"), MARCH - 8 * DAY, 2, "0.2", 1)
    state.spend(queue("A"), MARCH - 8 * DAY, 1, "0.1", 2)
    state.spend(queue("A"), MARCH - DAY, 0, "-0.1")  # refunds and free tasks have no price
    state.spend(queue("A"), MARCH, 5, "0")
    state.spend(queue("B"), MARCH, 1, "0.4")
    state.spend(queue("C"), MARCH, 0, "0.4")
    for series in (TOTAL, SeriesKey(Dimension.QUEUE, None), app("7")):
        state.spend(series, MARCH, 7, "7")
    assert sorted(state.store.last_spending()) == [
        (queue("A"), MARCH - 8 * DAY, Measures(3, Decimal("0.3"))),
        (queue("B"), MARCH, Measures(1, Decimal("0.4"))),
    ]


def test_days_with_members_have_a_response_for_one_of_them_newest_first(state: AccountState) -> None:
    state.requested(app("7"), day=MARCH - DAY)
    state.requested(queue("A"), app("7"))
    state.requested(queue("7"), day=MARCH - 2 * DAY)
    state.requested(app("7"), day=MARCH - 3 * DAY, outcome=Outcome.API_ERROR)
    state.requested(ip("192.0.2.10"), day=MARCH - 4 * DAY)
    assert state.store.days_with_members([app("7"), queue("A")]) == [MARCH, MARCH - DAY]
    assert state.store.days_with_members([queue("7"), ip("192.0.2.10")]) == [
        MARCH - 2 * DAY,
        MARCH - 4 * DAY,
    ]
    assert state.store.days_with_members([]) == []


# ---------------------------------------------------------------- unknown names


def _stored(state: AccountState) -> list[Fact]:
    [(series, values)] = state.store.facts([MARCH], 0)[MARCH].items()
    return [*single_facts(series, values, day_start(MARCH))]


def test_a_commit_writes_changed_facts_only_and_deletes_those_that_became_zero(state: AccountState) -> None:
    fact = Fact(queue("FunCaptcha"), day_start(MARCH), 3, 500_000_000, 1)

    def commit(fact: Fact) -> LoadCounts:
        return state.commit(Batch(changed_facts=((MARCH, fact),)))

    assert commit(fact) == LoadCounts(inserted=1)
    assert commit(fact._replace(snapshot=2)) == LoadCounts()
    assert _stored(state) == [fact]
    dearer = fact._replace(nanodollars=600_000_000, snapshot=3)
    assert commit(dearer) == LoadCounts(changed=1)
    assert _stored(state) == [dearer]
    assert commit(fact._replace(volume=0, nanodollars=0, snapshot=4)) == LoadCounts(changed=1)
    assert state.store.facts([MARCH], 0) == {}


def test_the_latest_unknown_name_behaviour_of_each_dimension_applies(state: AccountState) -> None:
    error, zeros = (
        UnknownNameBehaviour(UnknownNameAnswer.ERROR, "ERROR_X"),
        UnknownNameBehaviour(UnknownNameAnswer.ZEROS),
    )
    state.commit(
        Batch(
            traits=AccountTraits(
                0, unknown_name_behaviours={Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.TOTALS)}
            )
        )
    )
    state.commit(
        Batch(traits=AccountTraits(900, unknown_name_behaviours={Dimension.QUEUE: zeros, Dimension.APP: error}))
    )
    with state.engine.connect() as connection:
        again = open_account(connection, "default", Secret("default's key"), NOW)
        assert open_account(connection, "other", Secret("other's key"), NOW).unknown_name_behaviours == {}
    assert (again.hour_offset_seconds, again.unknown_name_behaviours) == (
        900,
        {Dimension.QUEUE: zeros, Dimension.APP: error},
    )
    assert find_account(state.engine, "default") == again
    state.commit(Batch(traits=AccountTraits(900)))
    assert find_account(state.engine, "default") == again


# ---------------------------------------------------------------- commits


def stored(state: AccountState, table: str, columns: str, order: str) -> list[tuple[object, ...]]:
    sql = f"select member, {columns} from internal.{table} join internal.series using (account_id, series_id) order by {order}"
    with state.engine.connect() as connection:
        return [tuple(row) for row in connection.exec_driver_sql(sql)]


def facts_of_hours(state: AccountState) -> list[tuple[object, ...]]:
    return stored(state, "facts", "extract(hour from hour_start), volume, money, snapshot_id", "member, hour_start")


def new_facts(series: SeriesKey, by_hour: dict[int, tuple[int, int, int]]) -> NewFacts:
    """Facts of a day: volume, nanodollars and snapshot by hour."""
    columns = zip(*(by_hour.get(n, (None, None, None)) for n in range(24)), strict=True)
    return NewFacts(MARCH, series, day_start(MARCH), FactValues(*columns))


A, UNATTRIBUTED = queue("A"), SeriesKey(Dimension.QUEUE, None)


def test_new_facts_are_stored_by_hour_and_counted_without_unattributed_amounts(state: AccountState) -> None:
    whole_day = {n: (n, n * 10**9, 7) for n in range(24)}
    some_hours = {3: (2, 500_000_001, 8), 9: (0, -1, 9)}
    batch = Batch(
        new_facts=(new_facts(queue("all"), whole_day), new_facts(A, some_hours), new_facts(UNATTRIBUTED, some_hours))
    )
    assert state.commit(batch) == LoadCounts(24 + 2, 0)
    every_hour = [("all", n, n, Decimal(n), 7) for n in range(24)]
    two = [(3, 2, Decimal("0.500000001"), 8), (9, 0, Decimal("-0.000000001"), 9)]
    rows = facts_of_hours(state)
    assert sorted(rows, key=repr) == sorted(
        [*every_hour, *(("A", *one) for one in two), *((None, *one) for one in two)], key=repr
    )


def test_a_commit_changes_deletes_and_inserts_facts_and_counts_each(state: AccountState) -> None:
    state.commit(
        Batch(new_facts=(new_facts(A, dict.fromkeys(range(4), (5, 10**9, 7))), new_facts(UNATTRIBUTED, {0: (1, 1, 7)})))
    )
    changed = [
        fact(A, MARCH, 5, "1", 0),
        fact(A, MARCH, 6, "1", 1),
        fact(A, MARCH, 5, "2", 2),
        fact(A, MARCH, 0, "0", 3),
    ]
    others = [
        fact(A, MARCH, 9, "9", 4),
        fact(A, MARCH, 0, "0", 5),
        fact(UNATTRIBUTED, MARCH, 0, "0", 0),
        fact(UNATTRIBUTED, MARCH, 3, "3", 1),
    ]
    counts = state.commit(Batch(changed_facts=tuple((MARCH, one) for one in (*changed, *others))))
    assert counts == LoadCounts(inserted=1, changed=3)
    expected = [("A", 0, 5, 1), ("A", 1, 6, 1), ("A", 2, 5, 2), ("A", 4, 9, 9), (None, 1, 3, 3)]
    assert sorted((row[:4] for row in facts_of_hours(state)), key=repr) == sorted(expected, key=repr)


def test_a_revision_names_the_commit_and_snapshot_of_the_earlier_value_if_it_had_a_row(state: AccountState) -> None:
    state.commit(Batch(new_facts=(new_facts(A, {3: (5, 10**9, 6)}),)))
    loaded_at = state.now
    one, two = Measures(5, Decimal(1)), Measures(6, Decimal("1.5"))
    hour = day_start(MARCH) + 3 * HOUR
    revisions = [
        Revision(A, hour, one, two, ChangeReason.CORRECTION, 8),
        Revision(A, hour + HOUR, ZERO_MEASURES, two, ChangeReason.LATE_ARRIVING, 8),
    ]
    state.commit(Batch(revisions=tuple((MARCH, one) for one in revisions)))
    columns = "volume_before, money_before, volume_after, money_after, cause, snapshot_id, snapshot_before"
    assert stored(state, "revisions", columns, "hour_start") == [
        ("A", 5, Decimal(1), 6, Decimal("1.5"), "correction", 8, 6),
        ("A", 0, Decimal(0), 6, Decimal("1.5"), "late_arriving", 8, None),
    ]
    (first, second) = stored(state, "revisions", "loaded_before, seen_at", "hour_start")
    assert first[1] == loaded_at
    assert second[1] is None
    assert first[2] == second[2] == loaded_at + timedelta(microseconds=1)


def test_each_body_is_stored_once_and_none_without_a_response(state: AccountState) -> None:
    for bodies in ((b"one", b"one", b"two"), (b"two", b"three")):
        snapshots = (replace(state.snapshot(A, MARCH), status=200, body=body) for body in bodies)
        state.commit(Batch(snapshots=tuple(snapshots)))
    state.commit(Batch(snapshots=(replace(state.snapshot(A, MARCH, Outcome.FAILED), status=None),)))
    with state.engine.connect() as connection:
        found = connection.exec_driver_sql("select body from internal.responses").scalars()
        assert sorted(zlib.decompress(body) for body in found) == [b"one", b"three", b"two"]
        missing = "select count(*) from internal.snapshots where hash is null"
        assert connection.exec_driver_sql(missing).scalar_one() == 1


def test_the_next_run_commits_later_than_every_row_of_the_last_one(state: AccountState) -> None:
    def revision(hour: int) -> Batch:
        change = Measures(1, Decimal(1)), ZERO_MEASURES, ChangeReason.CORRECTION, 1
        return Batch(revisions=((MARCH, Revision(A, day_start(MARCH) + hour * HOUR, *change)),))

    def status(status: MemberStatus) -> Batch:
        return Batch(member_statuses=((A, status, None),))

    def traits(answer: UnknownNameAnswer) -> Batch:
        behaviours = {Dimension.APP: UnknownNameBehaviour(answer)}
        return Batch(traits=AccountTraits(unknown_name_behaviours=behaviours))

    def snapshot() -> Batch:
        return Batch(snapshots=(state.snapshot(A, MARCH),))

    once = snapshot(), revision(1), status(MemberStatus.VERIFIED), traits(UnknownNameAnswer.ZEROS)
    again = snapshot(), revision(2), status(MemberStatus.RETIRED), traits(UnknownNameAnswer.TOTALS)
    for batch in (*once, *again, snapshot()):
        next_run = SyncStateStore(state.engine, state.store.account, lambda: NOW)
        next_run.start_run("sync", "1", MARCH, [])
        next_run.commit(batch)
    tables = "snapshots union all select seen_at from internal.revisions union all select valid_from from internal.member_statuses union all select valid_from from internal.unknown_name_behaviours"
    with state.engine.connect() as connection:
        committed = sorted(connection.exec_driver_sql(f"select committed_at from internal.{tables}").scalars())
    assert committed == [state.now + n * timedelta(microseconds=1) for n in range(9)]


# ---------------------------------------------------------------- several accounts


def test_the_last_completed_sync_ignores_failed_and_interrupted_ones(state: AccountState) -> None:
    engine, moment = state.engine, NOW
    for name, command, codes in (
        ("a", "sync", (0, 5, 130)),
        ("b", "sync", (1, 3, None)),
        ("c", "sync", (130, 4)),
        ("d", "replay", (0,)),
    ):
        account = AccountState(engine, name).store.account
        for code in codes:
            moment += HOUR
            now = moment
            run = SyncStateStore(engine, account, lambda now=now: now)  # type: ignore[misc]  # mypy cannot tell the default's type
            run.start_run(command, "1", MARCH, [])
            if code is not None:
                run.finish_run(code, {"requests": 1}, ())
    assert last_completed_syncs(engine) == {"a": NOW + 2 * HOUR, "b": NOW + 4 * HOUR}


def test_accounts_created_by_several_threads_get_different_numbers(warehouse: sa.Engine) -> None:
    names = [f"account {number}" for number in range(8)]
    all_started = threading.Barrier(len(names))

    def open_one(name: str) -> int:
        with warehouse.connect() as connection:
            all_started.wait(10)
            return open_account(connection, name, Secret(f"key of {name}"), NOW).account_id

    with ThreadPoolExecutor(len(names)) as pool:
        assert sorted(pool.map(open_one, names)) == list(range(1, 9))


def test_the_slow_hash_is_computed_once_per_new_account(warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch) -> None:
    hashed: list[Secret] = []
    slow = accounts_module.hash_key

    def counted(key: Secret, salt: bytes) -> bytes:
        hashed.append(key)
        return slow(key, salt)

    monkeypatch.setattr(accounts_module, "hash_key", counted)
    for number in range(6):
        with warehouse.connect() as connection:
            open_account(connection, f"account {number}", Secret(f"key {number}"), NOW)
    assert len(hashed) == 6
    with warehouse.connect() as connection, pytest.raises(UsageError, match="belongs to account account 3"):
        open_account(connection, "another", Secret("key 3"), NOW)
    with warehouse.connect() as connection, pytest.raises(UsageError, match="belongs to account account 3"):
        open_account(connection, "account 2", Secret("key 3"), NOW)
