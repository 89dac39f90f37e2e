"""The warehouse equals the API's own data to the last digit, whatever the behaviour of the API."""

from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from tests.e2e.world import UNATTRIBUTED, World, ago, by_hour, money, small

pytestmark = pytest.mark.contract

BEHAVIOURS = {
    "default": Behaviour(),
    "numbers as strings in an object": Behaviour(numbers="string", listed="object"),
    "float noise and idle hours left out": Behaviour(numbers="noise", idle="omit"),
    "23 records": Behaviour(buckets=23),
    "23 records, idle hours left out": Behaviour(buckets=23, idle="omit"),
    "25 records and hours not begun": Behaviour(buckets=25, unbegun=True),
    "without the running hour": Behaviour(running=False),
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


def _assert_equal_to_the_api(world: World) -> None:
    expected_rows, stored = world.expected_rows(), world.hourly()
    if not world.behaviour.running:  # only completed hours are returned
        end = world.now.replace(minute=0, tzinfo=None)
        expected_rows = {key: value for key, value in expected_rows.items() if key[1] < end}
    assert {key: (stored.get(key), value) for key, value in expected_rows.items() if stored.get(key) != value} == {}
    assert stored.keys() - expected_rows.keys() == set()
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


@pytest.mark.parametrize("behaviour", BEHAVIOURS)
def test_the_hourly_view_equals_the_data_of_the_api_to_the_last_digit(tmp_path: Path, behaviour: str) -> None:
    dataset = small(days=12, queues=4, seed=len(behaviour))
    with World(tmp_path, dataset, BEHAVIOURS[behaviour]) as world:
        summary = world.sync(empty_days=2)
        assert summary.exit_code == 0
        _assert_equal_to_the_api(world)
        assert world.statuses() == {"final": world.statuses()["final"], "open": 4}


@pytest.mark.parametrize("seed", [2, 3])
def test_queues_with_pauses_and_weeks_without_spend_are_exact(tmp_path: Path, seed: int) -> None:
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
        _assert_equal_to_the_api(world)


@pytest.mark.parametrize("grid_seconds", [-900, 1800])
def test_days_without_spend_before_the_first_record_follow_its_hours(tmp_path: Path, grid_seconds: int) -> None:
    behaviour = Behaviour(unknown_queue="zeros", grid_seconds=grid_seconds, idle="omit")
    with World(tmp_path, Dataset.always_active(begins=ago(-1), queues=2), behaviour) as world:
        for _ in range(4):
            assert world.sync().exit_code == 0
            world.now += timedelta(days=1)
        assert {start.minute for (start,) in world.rows("select hour_start from spending_total_hourly")} == {
            grid_seconds // 60 % 60
        }
        world.now -= timedelta(days=1)
        assert world.hourly() == world.expected_rows()
        assert world.run("replay") == 0


def test_an_idle_hour_is_complete_if_the_response_begins_with_the_hour_before_it(tmp_path: Path) -> None:
    """The API's hours begin 15 minutes before the requested second, idle ones are left out, and a 25th is returned: the
    first response makes it seem that they begin 45 minutes after it.
    """
    behaviour = Behaviour(unknown_queue="zeros", buckets=25, grid_seconds=-900, idle="omit")
    with World(tmp_path, small(days=9, queues=1, seed=15), behaviour) as world:
        world.now = world.now.replace(hour=23, minute=55)
        assert world.sync().exit_code == 0
        assert world.one("select hour_offset_seconds from internal.accounts") == 2700
        world.now += timedelta(hours=5)
        assert world.sync().exit_code == 0
        assert world.days("failed") == set()
        assert world.hourly() == world.expected_rows()


def test_an_unlisted_queue_stays_unattributed_until_the_user_names_it(
    tmp_path: Path,
) -> None:
    dataset = small(days=8, queues=("Recaptcha Proxyless", "FunCaptcha", "A queue of our own"))
    with World(tmp_path, dataset) as world:
        assert world.sync().exit_code == 0
        stored, expected_rows = world.hourly(), world.expected_rows()
        assert {queue for queue, _ in stored} == {"Recaptcha Proxyless", "FunCaptcha", UNATTRIBUTED}
        assert by_hour(stored) == by_hour(expected_rows)
        requested = world.requested_by(lambda: world.sync(queues=("A queue of our own",)))
        _assert_equal_to_the_api(world)
        assert {window.queue for window in requested if window.start.date() < ago(3)} == {"A queue of our own"}


TEMPORARY_FAULTS = (
    FaultKind.HTML_500, FaultKind.HTML_502, FaultKind.HTML_503, FaultKind.HTML, FaultKind.EMPTY, FaultKind.TRUNCATED, FaultKind.HALF_SENT,
    FaultKind.RESET, FaultKind.RETRY_AFTER, FaultKind.NO_SLOT,
)  # fmt: skip


def test_an_api_with_many_temporary_faults_is_read_exactly(tmp_path: Path) -> None:
    faults = tuple(Fault(kind, rate=0.04, attempts=(1, 2)) for kind in TEMPORARY_FAULTS)
    with World(tmp_path, small(days=15), faults=faults) as world:
        summary = world.sync()
        assert summary.exit_code == 0
        assert summary.retries > 20
        faults_met = {request.fault for request in world.requests}
        assert len(faults_met & set(TEMPORARY_FAULTS)) >= 8
        _assert_equal_to_the_api(world)


def test_a_zero_error_id_written_as_text_is_not_an_error(tmp_path: Path) -> None:
    with World(tmp_path, small(days=6), faults=(Fault(FaultKind.ERROR_ID_STRING),)) as world:
        assert world.sync().exit_code == 0
        _assert_equal_to_the_api(world)


def test_the_reported_new_hourly_values_are_the_rows_that_the_view_gained(tmp_path: Path) -> None:
    with World(tmp_path, small(5)) as world:
        first = world.sync()
        assert first.hourly_values_new == world.one("select count(*) from spending_hourly")
        before = world.one("select count(*) from spending_hourly")
        world.now += timedelta(days=1)
        second = world.sync()
        assert second.hourly_values_new == world.one("select count(*) from spending_hourly") - before > 0
