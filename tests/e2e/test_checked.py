"""Checks at the end of a sync find nothing in a correct warehouse; otherwise their findings are stored with the run."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

from etl.models import Finding, Severity
from etl.outputs import check_report
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from tests.e2e.world import NOW, TODAY, World, ago, clock_without_waiting, small

pytestmark = pytest.mark.contract

NORMAL: dict[str, tuple[Dataset, Behaviour, dict[str, Any]]] = {
    "a running day": (Dataset.always_active(begins=ago(5), queues=2), Behaviour(), {}),
    "totals only": (small(6), Behaviour(), {"totals_only": True}),
    "corrections": (small(6, corrections=True), Behaviour(), {"lookback": 1}),
    "an unlisted queue": (small(5, queues=("FunCaptcha", "An Unlisted Queue")), Behaviour(), {}),
    "23 records": (Dataset.always_active(begins=ago(5), queues=2), Behaviour(buckets=23), {}),
    "another grid, idle hours left out": (small(5, idle_hours=60), Behaviour(grid_seconds=-900, idle="omit"), {}),
    "an idle account": (small(9, queues=2, idle=((ago(4), ago(-9)),)), Behaviour(), {"empty_days": 9}),
    "nothing ever spent": (small(0, idle=((ago(900), ago(-9)),)), Behaviour(), {"since": ago(5)}),
    "apps and IPs": (small(5, queues=2), Behaviour(), {"soft_ids": ("1011", "1022"), "ips": ("192.0.2.10",)}),
    "a long lookback": (small(8, queues=2), Behaviour(), {"lookback": 6}),
}


def problems(findings: tuple[Finding, ...]) -> list[str]:
    return [f"{finding.severity} {finding.message}" for finding in findings if finding.severity is not Severity.INFO]


def problems_of_check(world: World) -> list[str]:
    """Return the findings of ``check``, an hour after the sync."""
    clock = clock_without_waiting(lambda: world.now + timedelta(hours=1))
    found = check_report.run_checks(world.warehouse, None, None, clock, wait=0)
    return problems(tuple(broken.finding for broken in found.checked.failures))


@pytest.mark.parametrize("name", NORMAL)
def test_a_correct_warehouse_has_no_findings(tmp_path: Path, name: str) -> None:
    dataset, behaviour, options = NORMAL[name]
    with World(tmp_path, dataset, behaviour) as world:
        for night in range(2):
            world.now = NOW + timedelta(days=night, hours=night)
            summary = world.sync(**options)
            assert (summary.exit_code, problems(summary.findings), problems_of_check(world)) == (0, [], [])


def test_an_hour_that_grows_during_the_sync_has_no_findings(tmp_path: Path) -> None:
    with World(tmp_path, Dataset.always_active(begins=ago(2), queues=3)) as world:

        def later() -> datetime:
            world.now += timedelta(seconds=40)
            return world.now

        world.sandbox._now = later  # the total is requested before its queues
        summary = world.sync(concurrency=1)
        assert world.one("select count(*) from internal.over_allocated_hours") > 0
        assert (summary.exit_code, problems(summary.findings)) == (0, [])


@pytest.mark.parametrize("buckets", [23, 24])
def test_a_backfill_stopped_anywhere_has_no_findings(tmp_path: Path, buckets: Literal[23, 24]) -> None:
    with World(tmp_path, small(14, queues=2), Behaviour(buckets=buckets)) as world:
        for limit in (16, 5, 17, 6, 16):
            summary = world.sync(max_requests=limit, soft_ids=("1011",))
            assert (summary.exit_code, problems(summary.findings), problems_of_check(world)) == (1, [], [])
            world.now += timedelta(minutes=1)


def store_an_hour_twice(world: World, day: date) -> None:
    """Store an hour of a day twice, as another program might. A server's keys would reject it."""
    world.rows(
        f"insert into internal.facts select * from internal.facts where day = '{day}' order by series_id, "
        "hour_start limit 1"
    )


def is_reported(findings: tuple[Finding, ...]) -> bool:
    return "every hour is held once" in {finding.check for finding in findings}


@pytest.mark.of_the_file
def test_after_a_sync_without_findings_the_next_checks_only_the_days_it_wrote(tmp_path: Path) -> None:
    with World(tmp_path, small(12)) as world:
        assert world.sync().exit_code == 0
        store_an_hour_twice(world, ago(9))
        summary = world.sync()
        assert (summary.exit_code, is_reported(summary.findings)) == (0, False)
        assert [finding for finding in problems_of_check(world) if "an hour of a series is stored once" in finding]


@pytest.mark.of_the_file
def test_a_finding_is_reported_by_every_sync_until_it_is_fixed(tmp_path: Path) -> None:
    with World(tmp_path, small(12)) as world:
        assert world.sync().exit_code == 0
        store_an_hour_twice(world, ago(2))
        for night in (0, 9, 10):
            world.now = NOW + timedelta(days=night)
            summary = world.sync()
            assert (summary.exit_code, is_reported(summary.findings)) == (5, True)


@pytest.mark.of_the_file
@pytest.mark.parametrize("ending", ["exit_code = null", "exit_code = 3", "command = 'replay'", "version = '0.0.1'"])
def test_all_days_are_checked_after_a_run_without_or_with_other_checks(tmp_path: Path, ending: str) -> None:
    with World(tmp_path, small(12)) as world:
        assert world.sync().exit_code == 0
        store_an_hour_twice(world, ago(9))
        world.rows(f"update internal.runs set {ending}; select 1")
        summary = world.sync()
        assert (summary.exit_code, is_reported(summary.findings)) == (5, True)


def test_custom_checks_run_after_each_sync_and_their_findings_are_stored(tmp_path: Path) -> None:
    folder = tmp_path / "own"
    folder.mkdir()
    own_check = "-- severity: blocking\nselect account, day, money from spending_daily where day = cast(:now as date)"
    (folder / "no_spend_at_all.sql").write_text(own_check)
    (folder / "broken.sql").write_text("select * from nowhere")
    (folder / "writes.sql").write_text("delete from internal.facts")
    with World(tmp_path, small(3)) as world:
        assert world.sync().exit_code == 0
        summary = world.sync(checks_folder="own")
        assert summary.exit_code == 5
        stored = world.rows(
            "select check_name, severity, day from internal.findings where run = 2 and severity <> 'note' order by 1"
        )
        assert stored == [
            ("broken", "warning", None),
            ("no spend at all", "blocking", ago(0)),
            ("writes", "warning", None),
        ]
        assert world.hourly() == world.expected_rows()


def test_a_refund_is_reported_once(tmp_path: Path) -> None:
    with World(tmp_path, small(6)) as world:
        world.sync()
        world.rows("update internal.facts set money = -0.5 where volume > 0; select 1")
        [reported] = [finding for finding in problems_of_check(world) if "negative" in finding]
        sentence = "no hour of a closed day has negative money that an earlier sync has not reported"
        assert reported.startswith(f"warning check failed: {sentence}: ")
        world.now += timedelta(hours=2)
        world.sync(until=ago(5))
        assert not [finding for finding in problems_of_check(world) if "negative" in finding]


class OddHour(Dataset):
    """A dataset where one hour of today, 05:00, has other values."""

    charge = (0, Decimal("1.23"))

    def day(
        self, day: int, as_of: int, queue: str | None = None, soft_id: int | None = None, ip: str | None = None
    ) -> tuple[tuple[int, Decimal], ...]:
        hours = super().day(day, as_of, queue, soft_id, ip)
        is_today = day == (TODAY - date(1970, 1, 1)).days and queue in (None, *self.names)
        return (*hours[:5], self.charge, *hours[6:]) if is_today else hours


class RefundedHour(OddHour):
    charge = (1, Decimal("-0.5"))


@pytest.mark.parametrize(
    ("dataset", "check"), [(OddHour, "money comes with tasks"), (RefundedHour, "negative money was seen before")]
)
def test_an_odd_hour_of_today_is_reported_once_when_the_day_is_closed(
    tmp_path: Path, dataset: type[OddHour], check: str
) -> None:
    with World(tmp_path, dataset(begins=ago(5), queues=1, idle_weeks=0, turnover=False)) as world:
        reported = []
        for night in range(6):
            world.now = NOW + timedelta(days=night)
            reported.append([finding.day for finding in world.sync().findings if finding.check == check])
        assert world.one("select count(*) from internal.facts f join internal.snapshots r using (account_id, "
            "snapshot_id) "
                         f"where f.hour_start = '{TODAY} 05:00' and run = 1") > 0  # fmt: skip
        assert reported == [[], [TODAY], [], [], [], []]
