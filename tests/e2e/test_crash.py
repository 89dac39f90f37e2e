"""Three years of nine queues: loaded in one go, and killed twenty times on the way. Both end at the service's own books."""

import random
import shutil
import signal
import threading
from collections import Counter
from datetime import date
from pathlib import Path
from typing import Any

import duckdb
import pytest

from etl.extract.walk import NO_SUCH
from etl.records import Cut
from etl.sandbox.dataset import Dataset
from tests.e2e.world import LOOKBACK, TODAY, Asked, World, ago, totals, windows

CONCURRENCY = 16
KILLS = 20
BEGINS = date(2023, 11, 23)
RECENT = totals(TODAY, *(ago(days) for days in range(1, LOOKBACK + 1)))
"""What every sync asks anew."""


def _world(folder: Path) -> World:
    return World(folder, Dataset(seed=7, begins=BEGINS, queues=9, spells=(120, 3)))  # three of the nine on any day


def _finish(world: World) -> None:
    with world.start(CONCURRENCY) as process:
        said = process.communicate()[1]
    assert (process.returncode, said) == (0, "")


def _is_whole_and_exact(world: World) -> None:
    """What an uninterrupted and an often killed load must both come to, and therefore have in common."""
    assert world.hourly() == world.books()
    assert world.statuses() == {"final": world.statuses()["final"], "open": LOOKBACK + 1}
    assert world.days("open") == {TODAY, *(ago(days) for days in range(1, LOOKBACK + 1))}
    assert min(world.days("final")) == ago((TODAY - BEGINS).days + 30)  # the oldest spend less empty_days, in sync_once.py
    assert world.rows("select day from coverage_daily where unattributed_volume <> 0 or unattributed_money <> 0") == []


def _fewest(world: World) -> int:
    """The windows no sync can do without: the total of every day, and each queue on the days it spent."""
    return len(world.rows("select day from coverage_daily")) + len({(queue, hour.date()) for queue, hour in world.books()})


@pytest.mark.slow
def test_three_years_are_exact_and_a_second_sync_asks_only_the_lookback_and_changes_nothing(tmp_path: Path) -> None:
    with _world(tmp_path) as world:
        _finish(world)
        _is_whole_and_exact(world)
        asked = world.asked()
        assert [window for window, times in asked.items() if times > 1 and window.queue != NO_SUCH[Cut.QUEUE].member] == []
        assert len(world.requests) <= _fewest(world) * 1.05

        facts = "select * from facts order by series_id, hour_start"
        held, answers = world.rows(facts), world.rows("select hash from answers order by hash")
        before = len(world.requests)
        summary = world.sync()
        assert world.asked(before) == Counter(RECENT)
        assert (summary.exit_code, summary.facts_inserted, summary.facts_changed) == (0, 0, 0)
        assert world.rows(facts) == held  # loaded_at too
        assert world.rows("select hash from answers order by hash") == answers


@pytest.mark.slow
def test_a_load_killed_twenty_times_ends_as_if_it_had_not_been_and_repeats_little(tmp_path: Path) -> None:
    dice = random.Random(20)
    with _world(tmp_path) as world:
        moments = sorted(dice.sample(range(1, 4_000), KILLS))
        begins, committed = [], [set[tuple[Any, ...]]()]
        for moment in moments:
            begins.append(len(world.requests))
            _kill(world, moment, dice.uniform(0, 0.2))
            committed.append(_committed(world, tmp_path / "copy"))
            assert committed[-1] >= committed[-2], "a committed reading is gone"
        begins.append(len(world.requests))
        _finish(world)

        _is_whole_and_exact(world)
        assert _committed(world, tmp_path / "copy") >= committed[-1]
        assert world.rows("select reading from readings group by account_id, reading having count(*) > 1") == []
        assert world.rows("select hour_start from facts group by account_id, series_id, hour_start having count(*) > 1") == []
        repeats = _repeats_by_kill(world, begins)
        assert max(repeats.values()) <= 2 * CONCURRENCY, repeats
        assert len(world.asked()) <= _fewest(world) * 1.05


def _kill(world: World, moment: int, seconds: float) -> None:
    """Starts a sync and kills it a little after the stand-in's request number ``moment``."""
    with world.start(CONCURRENCY) as process:
        while len(world.requests) < moment:
            assert process.poll() is None, process.communicate()[1]
            threading.Event().wait(0.01)
        threading.Event().wait(seconds)
        process.send_signal(signal.SIGKILL)


def _committed(world: World, copy: Path) -> set[tuple[Any, ...]]:
    """All readings, out of a copy: the file is left to the next sync as the kill left it."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in world.folder.glob("warehouse.duckdb*"):
        shutil.copy(file, copy)
    if not (copy / world.file.name).exists():
        return set()
    with duckdb.connect(copy / world.file.name) as connection:
        there = connection.execute("select count(*) from information_schema.tables where table_name = 'readings'").fetchone()
        return set(connection.execute("select * from readings").fetchall()) if there != (0,) else set()


def _repeats_by_kill(world: World, begins: list[int]) -> Counter[int]:
    """How many windows of each run had to be asked again by a later one, though not asked by every run."""
    repeats: Counter[int] = Counter()
    last: dict[Asked, int] = {}
    for run, (first, end) in enumerate(zip(begins, [*begins[1:], len(world.requests)], strict=True)):
        for window in windows(world.requests[first:end]):
            if window in last and window not in RECENT:
                repeats[last[window]] += 1
            last[window] = run
    return repeats
