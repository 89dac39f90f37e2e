"""SIGKILL at random times of every command that writes, and the state afterwards.

``python -m tests.chaos.kills KILLS --seed N`` prints the result; exit code 1 if data was lost or duplicated.
"""

import argparse
import json
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence
from datetime import UTC, date, timedelta
from decimal import Decimal
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import duckdb

from etl.clock import Clock
from etl.outputs import atomic
from etl.sandbox.dataset import Dataset
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse
from tests.chaos import moments
from tests.e2e.world import LOOKBACK, TODAY, RequestedWindow, World, ago, export, small, totals, windows
from tests.integration.sample_warehouse import FILLED, HOURS, SampleWarehouse, rows
from tests.matrix import markdown

CONCURRENCY = 16
RECENT = totals(TODAY, *(ago(days) for days in range(1, LOOKBACK + 1)))
"""Windows that every sync requests."""

Committed = set[tuple[Any, ...]]
"""Committed snapshots, each after its window: the hour sent as ``date``, and the queue."""

ANY_TIME = "at a random time"

SHARES = {"sync": 8, "replay": 3, "publish": 3, "export": 3, "migrate": 3}
"""The share of each command in twentieths of all kills."""

YEARS = date(2023, 11, 23)
"""Start of the history for ``MANY`` kills or more; fewer kills use a shorter one."""
MANY = 20


class Losses(NamedTuple):
    """The result of the kills of one command. ``repeats``: repeated requests of each kill; ``torn``: half-written states;
    ``moments``: when the kills of a sync came."""

    command: str
    kills: int
    missing: int = 0
    duplicates: int = 0
    torn: int = 0
    repeats: Sequence[int] = ()
    moments: Sequence[str] = ()

    @property
    def is_none(self) -> bool:
        losses = (self.missing, self.duplicates, self.torn)
        return losses == (0, 0, 0) and max(self.repeats, default=0) <= CONCURRENCY


# ---------------------------------------------------------------- kills


def kill_sync(world: World, request_number: int, seconds: float, concurrency: int = CONCURRENCY) -> None:
    """Start a sync and kill it ``seconds`` after the sandbox received request number ``request_number``."""
    with world.start(concurrency) as process:
        while len(world.requests) < request_number:
            assert process.poll() is None, process.communicate()[1]
            threading.Event().wait(0.01)
        threading.Event().wait(seconds)
        process.send_signal(signal.SIGKILL)


class Killer:
    """Starts a command and kills it at a random time of its run, after the start of Python."""

    def __init__(self, folder: Path, random_source: random.Random, modules: str, *arguments: str) -> None:
        self._folder, self._random, self._words = folder, random_source, arguments
        self._program = f"import {modules}; from etl.cli import main; print(flush=True); main()"
        self._duration = 0.0

    def run_undisturbed(self) -> None:
        """Run the command without a kill and measure its duration."""
        began, process = self._start()
        with process:
            _, stderr = process.communicate()
        assert process.returncode == 0, stderr
        self._duration = time.monotonic() - began

    def kill(self) -> bool:
        """Run and kill the command; return whether it was killed before its end."""
        _, process = self._start()
        with process:
            threading.Event().wait(self._random.uniform(0, self._duration))
            process.kill()
            process.communicate()
        return process.returncode == -signal.SIGKILL

    def _start(self) -> "tuple[float, subprocess.Popen[str]]":
        process = subprocess.Popen(
            [sys.executable, "-c", self._program, *self._words],
            cwd=self._folder,
            env={},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        process.stdout.readline()
        return time.monotonic(), process


def kills_of(killer: Killer, number: int, damage: Callable[[int], None], check: Callable[[], None]) -> None:
    """Kill the command this many times; runs that ended before their kill do not count. Call ``damage`` before and
    ``check`` after each run."""
    killed = rounds = 0
    while killed < number:
        damage(rounds := rounds + 1)
        killed += killer.kill()
        check()


# ---------------------------------------------------------------- sync


def sync(folder: Path, kills: int, random_source: random.Random) -> Losses:
    """Kill a load again and again, then finish it: it must end with exactly the API's data."""
    years = Dataset(seed=7, begins=YEARS, queues=9, active_periods=(120, 3))  # three of the nine on any day
    with World(folder, years if kills >= MANY else small(90, 4)) as world:
        spent = {(queue, hour.date()) for queue, hour in world.expected_rows()}
        windows = len(spent) + (TODAY - world.dataset.begins).days  # at least
        starts, committed, received, killed_at = list[int](), [Committed()], list[Committed](), list[str]()
        for number in range(kills):
            starts.append(len(world.requests))
            most = max(2, (windows - len({one[:2] for one in received[-1]} if received else ())) // (kills - number))
            killed_at.append(_kill_once(world, number, most, random_source))
            committed.append(committed_snapshots(world, folder / "copy"))
            received.append(committed[-1] | moments.left(world))
            world.now += timedelta(seconds=20)
        starts.append(len(world.requests))
        with world.start(CONCURRENCY) as process:
            stderr = process.communicate()[1]
        assert (process.returncode, stderr) == (0, "")
        committed.append(committed_snapshots(world, folder / "copy"))
        missing = sum(len(before - after) for before, after in pairwise(committed))
        missing += len(moments.left(world))
        stored, expected_rows = world.hourly(), world.expected_rows()
        wrong = sum(stored.get(hour) != expected_rows.get(hour) for hour in stored.keys() | expected_rows.keys())
        return Losses(
            "sync",
            kills,
            missing=missing + wrong,
            duplicates=count_duplicates(world.file),
            repeats=repeats_by_kill(world, starts, received),
            moments=killed_at,
        )


def _kill_once(world: World, number: int, most: int, random_source: random.Random) -> str:
    """Kill a sync, in turn at a random time and at the next of the moments; return the moment that was hit.

    ``most`` is the highest number of its requests.
    """
    requests, choices = len(world.requests), tuple(moments.MOMENTS)
    moment = choices[number // 2 % len(choices)] if number % 2 else ANY_TIME
    if moment in moments.OF_THE_NEXT_SYNC and not moments.left(world):
        moment = moments.WRITTEN
    if moment == ANY_TIME:
        kill_sync(world, requests + random_source.randint(1, most), random_source.uniform(0, 0.2))
        return moment
    highest = {moments.WRITTEN: most, moments.HALF_WRITTEN: most, moments.LEFT_READ: 1}.get(moment, 2)
    times = random_source.randint(1, highest)
    batch = random_source.randint(1, max(1, most // 2))
    with moments.start(world, moment, times, batch=batch, concurrency=CONCURRENCY) as process:
        stderr = process.communicate(timeout=120)[1]
    assert process.returncode == -signal.SIGKILL, (moment, times, batch, stderr)
    is_late = moment in moments.OF_THE_NEXT_SYNC and len(world.requests) > requests
    return ANY_TIME if is_late else moment


def committed_snapshots(world: World, copy: Path) -> Committed:
    """Return all snapshots, read from a copy, so that the next sync finds the file as the kill left it."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in world.folder.glob("warehouse.duckdb*"):
        shutil.copy(file, copy)
    if not (copy / world.file.name).exists():
        return set()
    with duckdb.connect(copy / world.file.name) as connection:
        table_count = connection.execute(
            "select count(*) from information_schema.tables where table_name = 'snapshots'"
        ).fetchone()
        rows = "select window_start, member, r.* from internal.snapshots r join internal.series using (account_id, series_id)"
        return set(connection.execute(rows).fetchall()) if table_count != (0,) else set()


def count_duplicates(file: Path) -> int:
    """Count facts and snapshots that are stored more than once."""
    keys = {"facts": "account_id, series_id, hour_start", "snapshots": "account_id, snapshot_id"}
    with duckdb.connect(file) as connection:
        counts = [
            connection.execute(f"select count(*) - count(distinct ({key})) from internal.{table}")
            for table, key in keys.items()
        ]
        return sum(count for [count] in (result.fetchone() or (0,) for result in counts))


def repeats_by_kill(world: World, starts: Sequence[int], committed: Sequence[Committed]) -> list[int]:
    """Return how many windows of each run except the last were requested again later because of the kill.

    Days within the lookback are requested again anyway; of them only uncommitted windows count, of all others every one.
    """
    repeats: Counter[int] = Counter()
    last: dict[RequestedWindow, int] = {}
    stored = [
        {*RECENT, *(RequestedWindow(start.replace(tzinfo=UTC), name) for start, name, *_ in rows)} for rows in committed
    ]
    for number, (first, end) in enumerate(zip(starts, [*starts[1:], len(world.requests)], strict=True)):
        for window in windows(world.requests[first:end]):
            if window in last and not (window.start.date() >= ago(LOOKBACK) and window in stored[last[window]]):
                repeats[last[window]] += 1
            last[window] = number
    return [repeats[number] for number in range(len(starts) - 1)]


# ---------------------------------------------------------------- replay, migrate


def replay(folder: Path, kills: int, random_source: random.Random) -> Losses:
    """Delete facts before every kill; after the last replay everything must be as before."""
    with World(folder, small(90)) as world:
        assert world.sync().exit_code == 0
        before, twice = export(world), 0
        killer = Killer(folder, random_source, "etl.sync.replay", "replay")
        killer.run_undisturbed()

        def damage(number: int) -> None:
            world.rows(f"delete from internal.facts where hour(hour_start) = {number % 24}")
            world.rows("delete from internal.revisions")

        def check() -> None:
            nonlocal twice
            twice += count_duplicates(world.file)

        kills_of(killer, kills, damage, check)
        killer.run_undisturbed()
        after = export(world)
        return Losses(
            "replay", kills, missing=sum(len({*before[name]} ^ {*after[name]}) for name in before), duplicates=twice
        )


def _upgraded(file: Path) -> str | None:
    """Return the revision of the tables, or None if they match no revision."""
    engine = open_warehouse(f"duckdb:///{file}")
    revision = migrate.current(engine)
    with engine.connect() as connection:
        columns = set(
            connection.exec_driver_sql(
                "select column_name from information_schema.columns where table_name in ('names', "
                "'member_statuses', 'runs')"
            ).scalars()
        )
    is_new = {"dimension", "member", "facts_unchanged"} <= columns
    is_old = "queue" in columns and not {"dimension", "member", "facts_unchanged"} & columns
    return revision if (revision == migrate.revisions()[-1] and is_new) or (revision == "0001" and is_old) else None


def migrate_killed(folder: Path, kills: int, random_source: random.Random) -> Losses:
    """Kill upgrades of a warehouse of the first release: each is complete or has no effect, and the facts stay the same."""
    with World(folder, small(60)) as world:
        assert world.sync().exit_code == 0
        facts = export(world)["facts"]
        migrate.downgrade(open_warehouse(f"duckdb:///{world.file}"), "0001")
        old = folder / "old"
        old.mkdir()
        shutil.copy(world.file, old)
        torn = missing = 0
        killer = Killer(folder, random_source, "etl.warehouse.migrate, alembic.command, alembic.config", "migrate")
        killer.run_undisturbed()

        def damage(_: int) -> None:
            for log in folder.glob("*.wal"):
                log.unlink()
            shutil.copy(old / world.file.name, world.file)

        def check() -> None:
            nonlocal torn, missing
            torn += _upgraded(world.file) is None
            migrate.upgrade(open_warehouse(f"duckdb:///{world.file}"))
            missing += len({*facts} ^ {*export(world)["facts"]})

        kills_of(killer, kills, damage, check)
        missing += world.hourly() != world.expected_rows()
        return Losses("migrate", kills, missing=missing, duplicates=count_duplicates(world.file), torn=torn)


# ---------------------------------------------------------------- publish, export


def _sample(folder: Path) -> SampleWarehouse:
    sample = SampleWarehouse(folder)
    migrate.upgrade(open_warehouse(sample.url))
    sample.write(FILLED)
    sample.set_price(Decimal(0))
    return sample


class _States:
    """Sets all money to the number of the round. A copy must be complete and from this round or the previous one."""

    def __init__(self, sample: SampleWarehouse) -> None:
        self._sample, self._previous, self._next = sample, 0, 0
        self.torn = self.missing = self.duplicates = 0

    def start_round(self, number: int) -> None:
        self._next = number
        self._sample.set_price(Decimal(number))

    def record(self, prices: Collection[Decimal], hours: int) -> None:
        self.missing += max(HOURS - hours, 0)
        self.duplicates += max(hours - HOURS, 0)
        self.torn += len(set(prices)) != 1 or not set(prices) <= {self._previous, self._next}
        self._previous = int(max(prices, default=Decimal(0)))


def publish(folder: Path, kills: int, random_source: random.Random) -> Losses:
    """Kill publishes: readers of the copy see the previous or the new state."""
    sample, copy = _sample(folder), folder / "bi" / "warehouse.duckdb"
    copy.parent.mkdir()
    killer = Killer(folder, random_source, "etl.outputs.publish, etl.outputs.check_report", "publish", "bi", "--quiet")
    killer.run_undisturbed()
    states = _States(sample)

    def check() -> None:
        by_queue = rows(copy, "select money from spending_hourly")
        total = rows(copy, "select money from spending_total_hourly")
        states.record({money for [money] in (*by_queue, *total)}, len(by_queue))

    kills_of(killer, kills, states.start_round, check)
    killer.run_undisturbed()
    states.torn += [file.name for file in copy.parent.iterdir()] != [copy.name]
    check()
    return Losses("publish", kills, missing=states.missing, duplicates=states.duplicates, torn=states.torn)


def exported(folder: Path, kills: int, random_source: random.Random) -> Losses:
    """Kill exports: the folder is the previous or the new one; if a kill left none, the next export restores it."""
    sample, lake = _sample(folder), folder / "lake"
    killer = Killer(folder, random_source, "etl.outputs.export", "export", "lake", "--quiet")
    killer.run_undisturbed()
    states = _States(sample)

    def check() -> None:
        if not lake.exists():
            with atomic.temporary_beside(lake, Clock(), wait=0):
                pass
        files = f"read_parquet('{lake}/spending_hourly/**/*.parquet', hive_partitioning = true)"
        with duckdb.connect() as memory:
            prices = [money for [money] in memory.execute(f"select money from {files}").fetchall()]
        states.record(prices, len(prices))
        row_counts = json.loads((lake / "_export.json").read_text())["rows"]
        states.torn += row_counts["spending_hourly"] != HOURS or any(not (lake / view).is_dir() for view in row_counts)

    kills_of(killer, kills, states.start_round, check)
    killer.run_undisturbed()
    states.torn += (folder / ".lake.draft").exists()
    check()
    return Losses("export", kills, missing=states.missing, duplicates=states.duplicates, torn=states.torn)


# ---------------------------------------------------------------- all commands

COMMANDS: dict[str, Callable[[Path, int, random.Random], Losses]] = {
    "sync": sync,
    "replay": replay,
    "publish": publish,
    "export": exported,
    "migrate": migrate_killed,
}

TITLES = (
    "killed",
    "kills",
    "facts lost",
    "facts doubled",
    "seen half done",
    f"requests repeated by one kill, at most ({CONCURRENCY} allowed)",
    "in all",
)


def _line(losses: Losses) -> tuple[str, ...]:
    repeats = (str(max(losses.repeats)), str(sum(losses.repeats))) if losses.repeats else ("-", "-")
    return (losses.command, *map(str, (losses.kills, losses.missing, losses.duplicates, losses.torn)), *repeats)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    losses_by_command = []
    for command, run in COMMANDS.items():
        with tempfile.TemporaryDirectory(prefix=f"chaos-{command}-") as folder:
            kills = max(1, options.kills * SHARES[command] // sum(SHARES.values()))
            losses_by_command.append(run(Path(folder), kills, random.Random(f"{options.seed} {command}")))
        print(*_line(losses_by_command[-1]), sep="\t", file=sys.stderr, flush=True)
    all_losses = Losses(
        "all",
        kills=sum(losses.kills for losses in losses_by_command),
        missing=sum(losses.missing for losses in losses_by_command),
        duplicates=sum(losses.duplicates for losses in losses_by_command),
        torn=sum(losses.torn for losses in losses_by_command),
        repeats=[number for losses in losses_by_command for number in losses.repeats],
    )
    print(markdown(TITLES, map(_line, (*losses_by_command, all_losses))), end="\n\n")
    killed_at = Counter(moment for losses in losses_by_command for moment in losses.moments)
    print(markdown(("sync killed when", "kills"), ((moment, str(times)) for moment, times in killed_at.items())))
    return 0 if all(losses.is_none for losses in losses_by_command) else 1


if __name__ == "__main__":
    sys.exit(main())
