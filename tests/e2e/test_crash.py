"""Years of nine queues, loaded in one run and in a run killed twenty times. Both end with exactly the API's data."""

import random
from collections import Counter
from datetime import timedelta
from pathlib import Path

import pytest

from etl.extract.planner import NONEXISTENT_MEMBERS
from etl.models import Dimension
from etl.sandbox.dataset import Dataset
from tests.chaos.kills import CONCURRENCY, RECENT, Committed, committed_snapshots, kill_sync, repeats_by_kill
from tests.e2e.world import LOOKBACK, TODAY, World, ago

KILLS = 20
YEAR, YEARS = 365, 3 * 365


def _world(folder: Path, days: int = YEARS) -> World:
    return World(
        folder, Dataset(seed=7, begins=ago(days), queues=9, active_periods=(120, 3))
    )  # three of the nine on any day


def _finish(world: World) -> None:
    with world.start(CONCURRENCY) as process:
        stderr = process.communicate()[1]
    assert (process.returncode, stderr) == (0, "")


def _assert_complete_and_exact(world: World) -> None:
    """Assert what both an uninterrupted and an often killed load must reach."""
    assert world.hourly() == world.expected_rows()
    assert world.statuses() == {"final": world.statuses()["final"], "open": LOOKBACK + 1}
    assert world.days("open") == {TODAY, *(ago(days) for days in range(1, LOOKBACK + 1))}
    first = min(hour.date() for _, hour in world.expected_rows())
    assert min(world.days("final")) == first - timedelta(days=30)  # the oldest spend less empty_days, in sync_once.py
    assert world.rows("select day from coverage_daily where unattributed_volume <> 0 or unattributed_money <> 0") == []


def _minimum_requests(world: World) -> int:
    """Return the number of windows that any sync needs: the total of every day, each queue on its days with spend."""
    return len(world.rows("select day from coverage_daily")) + len(
        {(queue, hour.date()) for queue, hour in world.expected_rows()}
    )


@pytest.mark.parametrize(
    "days", [pytest.param(YEAR, marks=pytest.mark.slow), pytest.param(YEARS, marks=pytest.mark.long)]
)
def test_years_are_exact_and_a_second_sync_requests_only_the_lookback_and_changes_nothing(
    tmp_path: Path, days: int
) -> None:
    with _world(tmp_path, days) as world:
        _finish(world)
        _assert_complete_and_exact(world)
        requested = world.requested()
        assert [
            window
            for window, times in requested.items()
            if times > 1 and window.queue != NONEXISTENT_MEMBERS[Dimension.QUEUE].member
        ] == []
        assert len(world.requests) <= _minimum_requests(world) * 1.05

        facts = "select * from internal.facts order by series_id, hour_start"
        stored, responses = world.rows(facts), world.rows("select hash from internal.responses order by hash")
        before = len(world.requests)
        summary = world.sync()
        assert world.requested(before) == Counter(RECENT)
        assert (summary.exit_code, summary.facts_inserted, summary.facts_changed) == (0, 0, 0)
        assert world.rows(facts) == stored  # loaded_at too
        assert world.rows("select hash from internal.responses order by hash") == responses


@pytest.mark.long
def test_a_load_killed_twenty_times_ends_exact_and_repeats_few_requests(tmp_path: Path) -> None:
    random_source = random.Random(20)
    with _world(tmp_path) as world:
        request_numbers = sorted(random_source.sample(range(1, 4_000), KILLS))
        starts, committed = list[int](), [Committed()]
        for request_number in request_numbers:
            starts.append(len(world.requests))
            kill_sync(world, request_number, random_source.uniform(0, 0.2))
            committed.append(committed_snapshots(world, tmp_path / "copy"))
            assert committed[-1] >= committed[-2], "a committed snapshot is missing"
        starts.append(len(world.requests))
        _finish(world)

        _assert_complete_and_exact(world)
        assert committed_snapshots(world, tmp_path / "copy") >= committed[-1]
        assert (
            world.rows(
                "select snapshot_id from internal.snapshots group by account_id, snapshot_id having count(*) > 1"
            )
            == []
        )
        assert (
            world.rows(
                "select hour_start from internal.facts group by account_id, series_id, hour_start having count(*) > 1"
            )
            == []
        )
        repeats = repeats_by_kill(world, starts, committed[1:])
        assert max(repeats) <= CONCURRENCY, repeats
        assert len(world.requested()) <= _minimum_requests(world) * 1.05
