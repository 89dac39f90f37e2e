"""What the ledger tells a run, from what earlier runs committed."""

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from itertools import count

import pytest
import sqlalchemy as sa

from etl.errors import UsageError
from etl.load import ledger as room
from etl.load.ledger import Ledger, find_account, last_finished, open_account
from etl.load.upsert import Batch, Counts, DayRow, Learned
from etl.records import (
    DAY,
    HOUR,
    TOTAL,
    Belief,
    Cut,
    Fact,
    Filter,
    Lesson,
    Outcome,
    Reading,
    Secret,
    Split,
    Unknown,
    Value,
    Verdict,
    Window,
    app,
    day_start,
    ip,
    queue,
)

pytestmark = pytest.mark.contract

MARCH = date(2026, 3, 14)
NOW = datetime(2026, 3, 20, 9, 30, tzinfo=UTC)


class Books:
    """A ledger in a run, and short ways to write into it."""

    def __init__(self, engine: sa.Engine, name: str = "default") -> None:
        self.engine = engine
        with engine.connect() as connection:
            account = open_account(connection, name, Secret(f"{name}'s key"), NOW)
        self.ledger = Ledger(engine, account, lambda: NOW)
        self.numbers = count(self.ledger.start_run("sync", "1", MARCH, []))

    def commit(self, batch: Batch) -> Counts:
        with self.ledger.open() as commit:
            return commit(batch)

    def reading(self, filter: Filter, day: date, outcome: Outcome = Outcome.GOOD) -> Reading:
        window = Window.whole_day(self.ledger.account.name, filter, day)
        return Reading(next(self.numbers), window, NOW, outcome)

    def asked(self, *filters: Filter, day: date = MARCH, outcome: Outcome = Outcome.GOOD) -> None:
        self.commit(Batch(readings=tuple(self.reading(filter, day, outcome) for filter in filters)))

    def day(self, day: date = MARCH, status: str = "final", *, explained: bool = False, closed: bool = True) -> None:
        split = Split(Value(1, Decimal("0.5")), explained=explained)
        verdict = Verdict(day, Value(9, Decimal(2)), NOW, closed, {Cut.QUEUE: split})
        self.commit(Batch(days=(DayRow(verdict, status),)))

    def spent(self, filter: Filter, day: date, volume: int, money: str, hour: int = 0) -> None:
        self.commit(Batch(facts=((day, fact(filter, day, volume, money, hour)),)))

    def held(self) -> list[tuple[object, ...]]:
        with self.engine.connect() as connection:
            sql = "select day, cut, member, extract(hour from hour_start), volume, money, reading from contradictions "
            joined = connection.exec_driver_sql(f"{sql} join series using (account_id, series_id) order by day, hour_start")
            return [tuple(row) for row in joined]


def fact(filter: Filter, day: date, volume: int, money: str, hour: int = 0) -> Fact:
    return Fact(filter, day_start(day) + HOUR * hour, volume, Decimal(money), 7)


@pytest.fixture
def books(warehouse: sa.Engine) -> Books:
    return Books(warehouse)


# ---------------------------------------------------------------- coverage


def test_a_final_day_with_a_rest_says_which_queues_were_asked(books: Books) -> None:
    books.day()
    books.day(MARCH - DAY, explained=True)
    books.day(MARCH - 2 * DAY, "open")
    for back in range(3):
        books.asked(TOTAL, queue("A"), app("7"), day=MARCH - DAY * back)
    books.asked(queue("B"), outcome=Outcome.REFUSED)
    known = books.ledger.coverage(()).known
    assert [dict(known[MARCH - DAY * back].asked) for back in range(3)] == [{queue("A"): NOW}, {}, {}]
    assert known[MARCH].splits == {Cut.QUEUE: Split(Value(1, Decimal("0.5")))}
    assert known[MARCH - DAY].explained
    assert known[MARCH].total == Value(9, Decimal(2))


def test_of_a_cut_that_is_asked_for_every_final_day_says_which_members_were_asked(books: Books) -> None:
    for back, status in enumerate(("final", "final", "open", "final")):
        books.day(MARCH - DAY * back, status, explained=True)
    for back in range(3):
        books.asked(app("7"), ip("192.0.2.10"), day=MARCH - DAY * back)
    books.asked(app("8"), outcome=Outcome.REFUSED)
    books.spent(Filter(Cut.APP, None), MARCH - DAY, 1, "0.1")
    books.spent(Filter(Cut.QUEUE, None), MARCH, 1, "0.1")
    books.spent(Filter(Cut.IP, None), MARCH, 1, "0.1")
    known = books.ledger.coverage([Cut.APP]).known
    days = [known[MARCH - DAY * back] for back in range(4)]
    assert [dict(day.asked) for day in days] == [{app("7"): NOW}, {app("7"): NOW}, {}, {}]
    assert [day.splits.get(Cut.APP) for day in days] == [Split(explained=True), Split(), None, None]
    both = books.ledger.coverage([Cut.IP, Cut.APP]).known[MARCH]
    assert set(both.asked) == {app("7"), ip("192.0.2.10")}
    assert (both.split(Cut.APP).explained, both.split(Cut.IP).explained) == (True, False)


def test_a_closed_day_tells_which_cuts_contradict_its_total(books: Books) -> None:
    claims = [Filter(Cut.QUEUE, None), Filter(Cut.IP, None)]
    for back, closed in enumerate((True, False, True)):
        day = MARCH - DAY * back
        books.day(day, closed=closed)
        if back < 2:
            row = DayRow(Verdict(day, closed=closed), "final")
            books.commit(Batch(days=(row,), contradictions=tuple((day, fact(claim, day, 9, "9")) for claim in claims)))
    known = books.ledger.coverage(()).known
    assert [known[MARCH - DAY * back].contradicted for back in range(3)] == [{Cut.QUEUE, Cut.IP}, set(), set()]
    books.asked(ip("192.0.2.10"))
    assert books.ledger.coverage([Cut.IP]).known[MARCH].splits[Cut.IP] == Split(contradicted=True)


def test_the_latest_belief_of_each_member_holds_and_cuts_do_not_meet(books: Books) -> None:
    books.commit(Batch(beliefs=((queue("7"), Belief.DOUBTED, 1), (app("7"), Belief.BELIEVED, None), (ip("7"), Belief.ENDED, 2))))
    books.commit(Batch(beliefs=((queue("7"), Belief.BELIEVED, 3),)))
    assert books.ledger.coverage(()).beliefs == {
        queue("7"): Belief.BELIEVED,
        app("7"): Belief.BELIEVED,
        ip("7"): Belief.ENDED,
    }


# ---------------------------------------------------------------- contradictions


def test_contradictions_take_the_place_of_those_held_of_the_days_named_and_of_no_others(books: Books) -> None:
    yesterday, rest = MARCH - DAY, Filter(Cut.QUEUE, None)
    rows = (DayRow(Verdict(MARCH), "open"), DayRow(Verdict(yesterday), "open"))
    claims = [fact(rest, MARCH, 3, "0.3", 1), fact(rest, MARCH, 4, "0.4", 2), fact(rest, yesterday, 5, "0.5")]
    books.commit(Batch(days=rows, contradictions=tuple((claim.hour_start.date(), claim) for claim in claims)))
    other = Books(books.engine, "other")
    other.commit(Batch(days=rows, contradicted=(MARCH, yesterday)))
    books.commit(Batch(facts=((MARCH, fact(queue("A"), MARCH, 1, "1")),)))
    assert [row[3] for row in books.held()] == [0, 1, 2]
    books.commit(Batch(days=rows[:1], contradictions=((MARCH, fact(rest, MARCH, 6, "0.6", 2)),), contradicted=(MARCH,)))
    assert books.held() == [
        (yesterday, "queue", None, 0, 5, Decimal("0.5"), 7),
        (MARCH, "queue", None, 2, 6, Decimal("0.6"), 7),
    ]
    books.commit(Batch(days=rows))
    assert len(books.held()) == 2
    books.commit(Batch(contradicted=(MARCH, yesterday)))
    assert books.held() == []


# ---------------------------------------------------------------- spending


def test_spending_is_told_of_the_members_of_all_cuts_day_by_day(books: Books) -> None:
    for filter in (TOTAL, Filter(Cut.QUEUE, None), Filter(Cut.APP, None), queue("7"), app("7"), ip("192.0.2.10")):
        books.spent(filter, MARCH, 2, "0.2", 1)
        books.spent(filter, MARCH, 1, "0.000000001", 2)
    books.spent(queue("7"), MARCH - DAY, 5, "0.5")
    books.spent(queue("7"), MARCH - 40 * DAY, 5, "0.5")
    spent = books.ledger.spending([MARCH])
    assert spent[0] == (queue("7"), MARCH - DAY, Value(5, Decimal("0.5")))
    whole = Value(3, Decimal("0.200000001"))
    assert sorted(spent[1:]) == [(app("7"), MARCH, whole), (ip("192.0.2.10"), MARCH, whole), (queue("7"), MARCH, whole)]


def test_the_last_spending_of_a_queue_is_its_last_day_with_a_price(books: Books) -> None:
    Books(books.engine, "other").spent(queue("A"), MARCH, 9, "9")
    books.spent(queue("A"), MARCH - 9 * DAY, 9, "9")
    books.spent(queue("A"), MARCH - 8 * DAY, 2, "0.2", 1)
    books.spent(queue("A"), MARCH - 8 * DAY, 1, "0.1", 2)
    books.spent(queue("A"), MARCH - DAY, 0, "-0.1")  # refunds and free tasks have no price
    books.spent(queue("A"), MARCH, 5, "0")
    books.spent(queue("B"), MARCH, 1, "0.4")
    books.spent(queue("C"), MARCH, 0, "0.4")
    for filter in (TOTAL, Filter(Cut.QUEUE, None), app("7")):
        books.spent(filter, MARCH, 7, "7")
    assert sorted(books.ledger.last_spending()) == [
        (queue("A"), MARCH - 8 * DAY, Value(3, Decimal("0.3"))),
        (queue("B"), MARCH, Value(1, Decimal("0.4"))),
    ]


def test_days_asked_for_are_those_on_which_one_of_the_members_answered_newest_first(books: Books) -> None:
    books.asked(app("7"), day=MARCH - DAY)
    books.asked(queue("A"), app("7"))
    books.asked(queue("7"), day=MARCH - 2 * DAY)
    books.asked(app("7"), day=MARCH - 3 * DAY, outcome=Outcome.REFUSED)
    books.asked(ip("192.0.2.10"), day=MARCH - 4 * DAY)
    assert books.ledger.days_asked_for([app("7"), queue("A")]) == [MARCH, MARCH - DAY]
    assert books.ledger.days_asked_for([queue("7"), ip("192.0.2.10")]) == [MARCH - 2 * DAY, MARCH - 4 * DAY]
    assert books.ledger.days_asked_for([]) == []


# ---------------------------------------------------------------- what an account has learned


def test_lessons_are_kept_a_cut_each_and_the_last_holds(books: Books) -> None:
    error, zeros = Lesson(Unknown.ERROR, "ERROR_X"), Lesson(Unknown.ZEROS)
    books.commit(Batch(learned=Learned(0, lessons={Cut.QUEUE: Lesson(Unknown.TOTALS)})))
    books.commit(Batch(learned=Learned(900, lessons={Cut.QUEUE: zeros, Cut.APP: error})))
    with books.engine.connect() as connection:
        again = open_account(connection, "default", Secret("default's key"), NOW)
        assert open_account(connection, "other", Secret("other's key"), NOW).lessons == {}
    assert (again.grid, again.lessons) == (900, {Cut.QUEUE: zeros, Cut.APP: error})
    assert find_account(books.engine, "default") == again
    books.commit(Batch(learned=Learned(900)))
    assert find_account(books.engine, "default") == again


# ---------------------------------------------------------------- several accounts


def test_the_last_end_of_an_account_is_that_of_a_sync_that_came_to_its_end(books: Books) -> None:
    engine, moment = books.engine, NOW
    for name, command, codes in (
        ("a", "sync", (0, 5, 130)),
        ("b", "sync", (1, 3, None)),
        ("c", "sync", (130, 4)),
        ("d", "replay", (0,)),
    ):
        account = Books(engine, name).ledger.account
        for code in codes:
            moment += HOUR
            now = moment
            run = Ledger(engine, account, lambda now=now: now)  # type: ignore[misc]  # mypy cannot tell the default's type
            run.start_run(command, "1", MARCH, [])
            if code is not None:
                run.finish_run(code, {"requests": 1}, ())
    assert last_finished(engine) == {"a": NOW + 2 * HOUR, "b": NOW + 4 * HOUR}


def test_accounts_that_are_new_at_once_have_a_number_each(warehouse: sa.Engine) -> None:
    names = [f"account {number}" for number in range(8)]
    everybody = threading.Barrier(len(names))

    def open_one(name: str) -> int:
        with warehouse.connect() as connection:
            everybody.wait(10)
            return open_account(connection, name, Secret(f"key of {name}"), NOW).account_id

    with ThreadPoolExecutor(len(names)) as pool:
        assert sorted(pool.map(open_one, names)) == list(range(1, 9))


def test_what_is_slow_on_purpose_is_done_once_for_each_account_that_is_new(
    warehouse: sa.Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashed: list[Secret] = []
    slow = room.hashed

    def counted(key: Secret, salt: bytes) -> bytes:
        hashed.append(key)
        return slow(key, salt)

    monkeypatch.setattr(room, "hashed", counted)
    for number in range(6):
        with warehouse.connect() as connection:
            open_account(connection, f"account {number}", Secret(f"key {number}"), NOW)
    assert len(hashed) == 6
    with warehouse.connect() as connection, pytest.raises(UsageError, match="belongs to account account 3"):
        open_account(connection, "another", Secret("key 3"), NOW)
    with warehouse.connect() as connection, pytest.raises(UsageError, match="belongs to account account 3"):
        open_account(connection, "account 2", Secret("key 3"), NOW)
