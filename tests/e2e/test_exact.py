"""The warehouse equals the service's own books, to the last digit, whatever the service's habits."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from tests.e2e.world import UNATTRIBUTED, World, ago, by_hour, money, small

pytestmark = pytest.mark.contract

HABITS = {
    "the likeliest": Behaviour(),
    "numbers as strings in an object": Behaviour(numbers="string", listed="object"),
    "float noise and idle hours left out": Behaviour(numbers="noise", idle="omit"),
    "23 records": Behaviour(buckets=23),
    "23 records, idle hours left out": Behaviour(buckets=23, idle="omit"),
    "25 records and hours not begun": Behaviour(buckets=25, unbegun=True),
    "the running hour not told": Behaviour(running=False),
    "unknown queues give zeros": Behaviour(unknown_queue="zeros"),
    "unknown queues give totals": Behaviour(unknown_queue="totals"),
    "unknown queues give totals, 23 records, idle hours left out": Behaviour(
        unknown_queue="totals", buckets=23, idle="omit"
    ),
    "identical duplicates": Behaviour(duplicates="identical"),
    "differing duplicates": Behaviour(duplicates="differing"),
    "hours from a quarter to": Behaviour(grid_seconds=-900),
    "hours from a quarter to, 23 records": Behaviour(grid_seconds=-900, buckets=23),
    "off-hour dates shift": Behaviour(off_hour="shift"),
}


def _equals_the_books(world: World) -> None:
    expected_rows, held = world.expected_rows(), world.hourly()
    if not world.behaviour.running:  # hours that had ended are all that can be known
        ended = world.now.replace(minute=0, tzinfo=None)
        expected_rows = {key: value for key, value in expected_rows.items() if key[1] < ended}
    assert {key: (held.get(key), value) for key, value in expected_rows.items() if held.get(key) != value} == {}
    assert held.keys() - expected_rows.keys() == set()
    volume, paid = money(expected_rows)
    assert volume > 0
    for view in ("spending_hourly", "spending_daily", "spending_monthly", "spending_total_hourly"):
        assert world.rows(f"select cast(sum(volume) as bigint), sum(money) from {view}") == [(volume, paid)]
    total = {
        hour: (tasks, usd)
        for hour, tasks, usd in world.rows("select hour_start, volume, money from spending_total_hourly")
    }
    assert {hour: value for hour, value in total.items() if value != (0, 0)} == by_hour(expected_rows)
    assert (0, Decimal(0)) in total.values()


@pytest.mark.parametrize("habit", HABITS)
def test_the_hourly_view_equals_the_services_books_to_the_last_digit(tmp_path: Path, habit: str) -> None:
    dataset = small(days=12, queues=4, seed=len(habit))
    with World(tmp_path, dataset, HABITS[habit]) as world:
        summary = world.sync(empty_days=2)
        assert summary.exit_code == 0
        _equals_the_books(world)
        assert world.statuses() == {"final": world.statuses()["final"], "open": 4}


@pytest.mark.parametrize("seed", [2, 3])
def test_queues_that_come_and_go_and_weeks_without_spend_are_exact(tmp_path: Path, seed: int) -> None:
    dataset = Dataset(
        seed=seed,
        begins=ago(45),
        queues=6,
        idle=((ago(30), ago(24)),),
        active_periods=(12, 2),
        turnover=False,
        idle_weeks=0,
        places=9,
    )
    with World(tmp_path, dataset) as world:
        assert world.sync(empty_days=8).exit_code == 0
        _equals_the_books(world)


def test_a_queue_no_catalogue_names_stays_unattributed_until_it_is_named_and_the_sum_is_exact_throughout(
    tmp_path: Path,
) -> None:
    dataset = small(days=8, queues=("Recaptcha Proxyless", "FunCaptcha", "A queue of our own"))
    with World(tmp_path, dataset) as world:
        assert world.sync().exit_code == 0
        held, expected_rows = world.hourly(), world.expected_rows()
        assert {queue for queue, _ in held} == {"Recaptcha Proxyless", "FunCaptcha", UNATTRIBUTED}
        assert by_hour(held) == by_hour(expected_rows)
        again = world.asked_by(lambda: world.sync(queues=("A queue of our own",)))
        _equals_the_books(world)
        assert {asked.queue for asked in again if asked.start.date() < ago(3)} == {"A queue of our own"}


FLAKY = (
    FaultKind.HTML_500, FaultKind.HTML_502, FaultKind.HTML_503, FaultKind.HTML, FaultKind.EMPTY, FaultKind.TRUNCATED, FaultKind.HALF_SENT,
    FaultKind.RESET, FaultKind.RETRY_AFTER, FaultKind.NO_SLOT,
)  # fmt: skip


def test_a_service_that_often_fails_in_every_way_is_still_read_exactly(tmp_path: Path) -> None:
    faults = tuple(Fault(kind, rate=0.04, attempts=(1, 2)) for kind in FLAKY)
    with World(tmp_path, small(days=15), faults=faults) as world:
        summary = world.sync()
        assert summary.exit_code == 0
        assert summary.retries > 20
        struck = {request.fault for request in world.requests}
        assert len(struck & set(FLAKY)) >= 8
        _equals_the_books(world)


def test_answers_that_say_the_same_in_other_words_are_no_faults(tmp_path: Path) -> None:
    with World(tmp_path, small(days=6), faults=(Fault(FaultKind.ERROR_ID_STRING),)) as world:
        assert world.sync().exit_code == 0
        _equals_the_books(world)


def test_the_new_hourly_values_of_a_sync_are_the_rows_that_the_view_gained(tmp_path: Path) -> None:
    with World(tmp_path, small(5)) as world:
        first = world.sync()
        assert first.hourly_values_new == world.one("select count(*) from spending_hourly")
        before = world.one("select count(*) from spending_hourly")
        world.now += timedelta(days=1)
        second = world.sync()
        assert second.hourly_values_new == world.one("select count(*) from spending_hourly") - before > 0
