"""Checks at the end of a sync: silent on every warehouse that is as it should be, and kept with the run when they are
not."""

from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any, Literal

import pytest

from etl.models import Finding, Severity
from etl.outputs import check_report
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from tests.e2e.world import NOW, TODAY, World, ago, napless, small

pytestmark = pytest.mark.contract

NORMAL: dict[str, tuple[Dataset, Behaviour, dict[str, Any]]] = {
    "a running day": (Dataset.busy(begins=ago(5), queues=2), Behaviour(), {}),
    "totals only": (small(6), Behaviour(), {"totals_only": True}),
    "corrections": (small(6, corrections=True), Behaviour(), {"lookback": 1}),
    "an unlisted queue": (small(5, queues=("FunCaptcha", "A Queue Nobody Listed")), Behaviour(), {}),
    "23 records": (Dataset.busy(begins=ago(5), queues=2), Behaviour(buckets=23), {}),
    "another grid, idle hours left out": (small(5, idle_hours=60), Behaviour(grid_seconds=-900, idle="omit"), {}),
    "an idle account": (small(9, queues=2, idle=((ago(4), ago(-9)),)), Behaviour(), {"empty_days": 9}),
    "nothing ever spent": (small(0, idle=((ago(900), ago(-9)),)), Behaviour(), {"since": ago(5)}),
    "apps and IPs": (small(5, queues=2), Behaviour(), {"soft_ids": ("1011", "1022"), "ips": ("192.0.2.10",)}),
    "a long lookback": (small(8, queues=2), Behaviour(), {"lookback": 6}),
}


def wanting(findings: tuple[Finding, ...]) -> list[str]:
    return [f"{finding.severity} {finding.message}" for finding in findings if finding.severity is not Severity.INFO]


def checked(world: World) -> list[str]:
    """What ``check`` says, an hour after the sync."""
    clock = napless(lambda: world.now + timedelta(hours=1))
    found = check_report.run_checks(world.warehouse, None, None, clock, wait=0)
    return wanting(tuple(broken.finding for broken in found.checked.broken))


@pytest.mark.parametrize("name", NORMAL)
def test_a_warehouse_that_is_as_it_should_be_is_not_spoken_of(tmp_path: Path, name: str) -> None:
    dataset, behaviour, given = NORMAL[name]
    with World(tmp_path, dataset, behaviour) as world:
        for night in range(2):
            world.now = NOW + timedelta(days=night, hours=night)
            summary = world.sync(**given)
            assert (summary.exit_code, wanting(summary.findings), checked(world)) == (0, [], [])


def test_an_hour_that_grows_while_it_is_read_is_not_spoken_of(tmp_path: Path) -> None:
    with World(tmp_path, Dataset.busy(begins=ago(2), queues=3)) as world:

        def later() -> datetime:
            world.now += timedelta(seconds=40)
            return world.now

        world.sandbox._now = later  # the total is asked before its queues
        summary = world.sync(concurrency=1)
        assert world.one("select count(*) from internal.over_allocated_hours") > 0
        assert (summary.exit_code, wanting(summary.findings)) == (0, [])


@pytest.mark.parametrize("buckets", [23, 24])
def test_a_first_backfill_stopped_anywhere_is_not_spoken_of(tmp_path: Path, buckets: Literal[23, 24]) -> None:
    with World(tmp_path, small(14, queues=2), Behaviour(buckets=buckets)) as world:
        for limit in (16, 5, 17, 6, 16):
            summary = world.sync(max_requests=limit, soft_ids=("1011",))
            assert (summary.exit_code, wanting(summary.findings), checked(world)) == (1, [], [])
            world.now += timedelta(minutes=1)


def doubled(world: World, day: date) -> None:
    """An hour of a day is held twice, as a second program that writes to the file might leave it. A server's keys
    refuse it."""
    world.rows(
        f"insert into internal.facts select * from internal.facts where day = '{day}' order by series_id, "
        "hour_start limit 1"
    )


def is_told(findings: tuple[Finding, ...]) -> bool:
    return "every hour is held once" in {finding.check for finding in findings}


@pytest.mark.of_the_file
def test_a_sync_after_a_sound_one_looks_at_the_days_it_wrote_and_check_at_all(tmp_path: Path) -> None:
    with World(tmp_path, small(12)) as world:
        assert world.sync().exit_code == 0
        doubled(world, ago(9))
        summary = world.sync()
        assert (summary.exit_code, is_told(summary.findings)) == (0, False)
        assert [one for one in checked(world) if "an hour of a series is stored once" in one]


@pytest.mark.of_the_file
def test_what_a_sync_found_wrong_is_looked_for_until_it_is_mended(tmp_path: Path) -> None:
    with World(tmp_path, small(12)) as world:
        assert world.sync().exit_code == 0
        doubled(world, ago(2))
        for night in (0, 9, 10):
            world.now = NOW + timedelta(days=night)
            summary = world.sync()
            assert (summary.exit_code, is_told(summary.findings)) == (5, True)


@pytest.mark.of_the_file
@pytest.mark.parametrize("ending", ["exit_code = null", "exit_code = 3", "command = 'replay'", "version = '0.0.1'"])
def test_after_a_run_that_did_not_look_or_looked_otherwise_all_days_are_looked_at(tmp_path: Path, ending: str) -> None:
    with World(tmp_path, small(12)) as world:
        assert world.sync().exit_code == 0
        doubled(world, ago(9))
        world.rows(f"update internal.runs set {ending}; select 1")
        summary = world.sync()
        assert (summary.exit_code, is_told(summary.findings)) == (5, True)


def test_ones_own_checks_run_after_each_sync_and_are_kept_with_it(tmp_path: Path) -> None:
    own = tmp_path / "own"
    own.mkdir()
    own_words = "-- severity: blocking\nselect account, day, money from spending_daily where day = cast(:now as date)"
    (own / "no_spend_at_all.sql").write_text(own_words)
    (own / "broken.sql").write_text("select * from nowhere")
    (own / "writes.sql").write_text("delete from internal.facts")
    with World(tmp_path, small(3)) as world:
        assert world.sync().exit_code == 0
        summary = world.sync(checks_folder="own")
        assert summary.exit_code == 5
        kept = world.rows(
            "select check_name, severity, day from internal.findings where run = 2 and severity <> 'note' order by 1"
        )
        assert kept == [
            ("broken", "warning", None),
            ("no spend at all", "blocking", ago(0)),
            ("writes", "warning", None),
        ]
        assert world.hourly() == world.expected_rows()


def test_a_refund_is_told_once(tmp_path: Path) -> None:
    with World(tmp_path, small(6)) as world:
        world.sync()
        world.rows("update internal.facts set money = -0.5 where volume > 0; select 1")
        [told] = [one for one in checked(world) if "negative" in one]
        sentence = "no hour of a closed day has negative money that an earlier sync has not reported"
        assert told.startswith(f"warning check failed: {sentence}: ")
        world.now += timedelta(hours=2)
        world.sync(until=ago(5))
        assert not [one for one in checked(world) if "negative" in one]


class Odd(Dataset):
    """One hour of today, 05:00, is charged otherwise."""

    charge = (0, Decimal("1.23"))

    def day(
        self, day: int, as_of: int, queue: str | None = None, soft_id: int | None = None, ip: str | None = None
    ) -> tuple[tuple[int, Decimal], ...]:
        hours = super().day(day, as_of, queue, soft_id, ip)
        is_today = day == (TODAY - date(1970, 1, 1)).days and queue in (None, *self.names)
        return (*hours[:5], self.charge, *hours[6:]) if is_today else hours


class Refunding(Odd):
    charge = (1, Decimal("-0.5"))


@pytest.mark.parametrize(
    ("dataset", "check"), [(Odd, "money comes with tasks"), (Refunding, "negative money was seen before")]
)
def test_an_hour_read_while_its_day_ran_is_told_once_by_the_sync_that_closes_the_day(
    tmp_path: Path, dataset: type[Odd], check: str
) -> None:
    with World(tmp_path, dataset(begins=ago(5), queues=1, idle_weeks=0, turnover=False)) as world:
        told = []
        for night in range(6):
            world.now = NOW + timedelta(days=night)
            told.append([one.day for one in world.sync().findings if one.check == check])
        assert world.one("select count(*) from internal.facts f join internal.snapshots r using (account_id, "
            "snapshot_id) "
                         f"where f.hour_start = '{TODAY} 05:00' and run = 1") > 0  # fmt: skip
        assert told == [[], [TODAY], [], [], [], []]
