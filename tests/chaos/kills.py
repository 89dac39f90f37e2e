"""SIGKILL at random moments of every command that writes, and what is there afterwards.

``python -m tests.chaos.kills KILLS --seed N`` prints what so many kills came to; exit code 1 when one broke a promise.
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
from datetime import UTC, date
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
from tests.e2e.world import LOOKBACK, TODAY, RequestedWindow, World, ago, export, small, totals, windows
from tests.integration.sample_warehouse import FILLED, HOURS, Bank, rows
from tests.matrix import markdown

CONCURRENCY = 16
RECENT = totals(TODAY, *(ago(days) for days in range(1, LOOKBACK + 1)))
"""What every sync asks anew."""

Committed = set[tuple[Any, ...]]
"""Readings, each behind its window: the hour sent as ``date``, and the queue."""

SHARES = {"sync": 8, "replay": 3, "publish": 3, "export": 3, "migrate": 3}
"""How the kills are spread, in twentieths."""

YEARS = date(2023, 11, 23)
"""The history that most kills are spread over; fewer than ``MANY`` have a shorter one."""
MANY = 20


class Toll(NamedTuple):
    """What the kills of one command came to. ``repeats`` are requests asked again, by kill; ``torn`` is what was seen
    half done."""

    command: str
    kills: int
    lost: int = 0
    doubled: int = 0
    torn: int = 0
    repeats: Sequence[int] = ()

    @property
    def is_none(self) -> bool:
        return (self.lost, self.doubled, self.torn) == (0, 0, 0) and max(self.repeats, default=0) <= 2 * CONCURRENCY


# ---------------------------------------------------------------- killing


def kill_sync(world: World, moment: int, seconds: float, concurrency: int = CONCURRENCY) -> None:
    """Starts a sync and kills it a little after the stand-in's request number ``moment``."""
    with world.start(concurrency) as process:
        while len(world.requests) < moment:
            assert process.poll() is None, process.communicate()[1]
            threading.Event().wait(0.01)
        threading.Event().wait(seconds)
        process.send_signal(signal.SIGKILL)


class Killer:
    """Starts a command and kills it at a random moment of what is its life, Python's start not counted."""

    def __init__(self, folder: Path, dice: random.Random, rooms: str, *words: str) -> None:
        self._folder, self._dice, self._words = folder, dice, words
        self._program = f"import {rooms}; from etl.cli import main; print(flush=True); main()"
        self._life = 0.0

    def whole(self) -> None:
        """The command undisturbed: so long is its life."""
        began, process = self._start()
        with process:
            _, said = process.communicate()
        assert process.returncode == 0, said
        self._life = time.monotonic() - began

    def kill(self) -> bool:
        """Whether the kill came before the end."""
        _, process = self._start()
        with process:
            threading.Event().wait(self._dice.uniform(0, self._life))
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


def kills_of(killer: Killer, number: int, damage: Callable[[int], None], look: Callable[[], None]) -> None:
    """So many kills: what ended before its kill came is killed anew. ``look`` is told of each life's end, killed or
    not."""
    killed = rounds = 0
    while killed < number:
        damage(rounds := rounds + 1)
        killed += killer.kill()
        look()


# ---------------------------------------------------------------- sync


def sync(folder: Path, kills: int, dice: random.Random) -> Toll:
    """A load that is killed again and again, and then left alone: it must come to the stand-in's own books."""
    years = Dataset(seed=7, begins=YEARS, queues=9, active_periods=(120, 3))  # three of the nine on any day
    with World(folder, years if kills >= MANY else small(90, 4)) as world:
        spent = {(queue, hour.date()) for queue, hour in world.expected_rows()}
        moments = sorted(dice.sample(range(1, int(0.9 * (len(spent) + (TODAY - world.dataset.begins).days))), kills))
        starts, committed = list[int](), [Committed()]
        for moment in moments:
            starts.append(len(world.requests))
            kill_sync(world, moment, dice.uniform(0, 0.2))
            committed.append(committed_snapshots(world, folder / "copy"))
        starts.append(len(world.requests))
        with world.start(CONCURRENCY) as process:
            said = process.communicate()[1]
        assert (process.returncode, said) == (0, "")
        committed.append(committed_snapshots(world, folder / "copy"))
        gone = sum(len(before - after) for before, after in pairwise(committed))
        held, expected_rows = world.hourly(), world.expected_rows()
        wrong = sum(held.get(hour) != expected_rows.get(hour) for hour in held.keys() | expected_rows.keys())
        return Toll(
            "sync",
            kills,
            lost=gone + wrong,
            doubled=doubled(world.file),
            repeats=repeats_by_kill(world, starts, committed[1:-1]),
        )


def committed_snapshots(world: World, copy: Path) -> Committed:
    """All readings, out of a copy: the file is left to the next sync as the kill left it."""
    shutil.rmtree(copy, ignore_errors=True)
    copy.mkdir()
    for file in world.folder.glob("warehouse.duckdb*"):
        shutil.copy(file, copy)
    if not (copy / world.file.name).exists():
        return set()
    with duckdb.connect(copy / world.file.name) as connection:
        there = connection.execute(
            "select count(*) from information_schema.tables where table_name = 'snapshots'"
        ).fetchone()
        rows = "select window_start, member, r.* from internal.snapshots r join internal.series using (account_id, series_id)"
        return set(connection.execute(rows).fetchall()) if there != (0,) else set()


def doubled(file: Path) -> int:
    """Facts and readings that stand there more than once."""
    keys = {"facts": "account_id, series_id, hour_start", "snapshots": "account_id, snapshot_id"}
    with duckdb.connect(file) as connection:
        told = [
            connection.execute(f"select count(*) - count(distinct ({key})) from internal.{table}")
            for table, key in keys.items()
        ]
        return sum(count for [count] in (one.fetchone() or (0,) for one in told))


def repeats_by_kill(world: World, starts: Sequence[int], committed: Sequence[Committed]) -> list[int]:
    """How many windows of each run, the last excepted, had to be asked again by a later one because of the kill.

    Days within the lookback are read again in any case, total and whatever it leaves open: of them only what was not
    committed counts, of all others everything.
    """
    repeats: Counter[int] = Counter()
    last: dict[RequestedWindow, int] = {}
    held = [
        {*RECENT, *(RequestedWindow(start.replace(tzinfo=UTC), name) for start, name, *_ in rows)} for rows in committed
    ]
    for number, (first, end) in enumerate(zip(starts, [*starts[1:], len(world.requests)], strict=True)):
        for window in windows(world.requests[first:end]):
            if window in last and not (window.start.date() >= ago(LOOKBACK) and window in held[last[window]]):
                repeats[last[window]] += 1
            last[window] = number
    return [repeats[number] for number in range(len(starts) - 1)]


# ---------------------------------------------------------------- replay, migrate


def replay(folder: Path, kills: int, dice: random.Random) -> Toll:
    """Facts that are damaged before every kill are what they were after the last replay, and so is all else."""
    with World(folder, small(90)) as world:
        assert world.sync().exit_code == 0
        before, twice = export(world), 0
        killer = Killer(folder, dice, "etl.sync.replay", "replay")
        killer.whole()

        def damage(number: int) -> None:
            world.rows(f"delete from internal.facts where hour(hour_start) = {number % 24}")
            world.rows("delete from internal.revisions")

        def look() -> None:
            nonlocal twice
            twice += doubled(world.file)

        kills_of(killer, kills, damage, look)
        killer.whole()
        after = export(world)
        return Toll("replay", kills, lost=sum(len({*before[name]} ^ {*after[name]}) for name in before), doubled=twice)


def _upgraded(file: Path) -> str | None:
    """The revision of the tables; None when the tables are not those of any."""
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


def moved(folder: Path, kills: int, dice: random.Random) -> Toll:
    """A warehouse of the first release is upgraded wholly or not at all; the next upgrade has the same facts."""
    with World(folder, small(60)) as world:
        assert world.sync().exit_code == 0
        facts = export(world)["facts"]
        migrate.downgrade(open_warehouse(f"duckdb:///{world.file}"), "0001")
        old = folder / "old"
        old.mkdir()
        shutil.copy(world.file, old)
        torn = lost = 0
        killer = Killer(folder, dice, "etl.warehouse.migrate, alembic.command, alembic.config", "migrate")
        killer.whole()

        def damage(_: int) -> None:
            for log in folder.glob("*.wal"):
                log.unlink()
            shutil.copy(old / world.file.name, world.file)

        def look() -> None:
            nonlocal torn, lost
            torn += _upgraded(world.file) is None
            migrate.upgrade(open_warehouse(f"duckdb:///{world.file}"))
            lost += len({*facts} ^ {*export(world)["facts"]})

        kills_of(killer, kills, damage, look)
        lost += world.hourly() != world.expected_rows()
        return Toll("migrate", kills, lost=lost, doubled=doubled(world.file), torn=torn)


# ---------------------------------------------------------------- publish, export


def _bank(folder: Path) -> Bank:
    bank = Bank(folder)
    migrate.upgrade(open_warehouse(bank.url))
    bank.write(FILLED)
    bank.set_price(Decimal(0))
    return bank


class _States:
    """Everything costs a round's number: a copy must be of the round before or of this one, and whole."""

    def __init__(self, bank: Bank) -> None:
        self._bank, self._held, self._next = bank, 0, 0
        self.torn = self.lost = self.doubled = 0

    def turn(self, number: int) -> None:
        self._next = number
        self._bank.set_price(Decimal(number))

    def see(self, prices: Collection[Decimal], hours: int) -> None:
        self.lost += max(HOURS - hours, 0)
        self.doubled += max(hours - HOURS, 0)
        self.torn += len(set(prices)) != 1 or not set(prices) <= {self._held, self._next}
        self._held = int(max(prices, default=Decimal(0)))


def publish(folder: Path, kills: int, dice: random.Random) -> Toll:
    """Readers of the copy see the state before or the new one."""
    bank, copy = _bank(folder), folder / "bi" / "warehouse.duckdb"
    copy.parent.mkdir()
    killer = Killer(folder, dice, "etl.outputs.publish, etl.outputs.check_report", "publish", "bi", "--quiet")
    killer.whole()
    states = _States(bank)

    def look() -> None:
        by_queue = rows(copy, "select money from spending_hourly")
        total = rows(copy, "select money from spending_total_hourly")
        states.see({money for [money] in (*by_queue, *total)}, len(by_queue))

    kills_of(killer, kills, states.turn, look)
    killer.whole()
    states.torn += [file.name for file in copy.parent.iterdir()] != [copy.name]
    look()
    return Toll("publish", kills, lost=states.lost, doubled=states.doubled, torn=states.torn)


def exported(folder: Path, kills: int, dice: random.Random) -> Toll:
    """The folder is that of the export before or the new one; gone for an instant, it is put back by the next maker."""
    bank, lake = _bank(folder), folder / "lake"
    killer = Killer(folder, dice, "etl.outputs.export", "export", "lake", "--quiet")
    killer.whole()
    states = _States(bank)

    def look() -> None:
        if not lake.exists():
            with atomic.temporary_beside(lake, Clock(), wait=0):
                pass
        files = f"read_parquet('{lake}/spending_hourly/**/*.parquet', hive_partitioning = true)"
        with duckdb.connect() as memory:
            prices = [money for [money] in memory.execute(f"select money from {files}").fetchall()]
        states.see(prices, len(prices))
        told = json.loads((lake / "_export.json").read_text())["rows"]
        states.torn += told["spending_hourly"] != HOURS or any(not (lake / view).is_dir() for view in told)

    kills_of(killer, kills, states.turn, look)
    killer.whole()
    states.torn += (folder / ".lake.draft").exists()
    look()
    return Toll("export", kills, lost=states.lost, doubled=states.doubled, torn=states.torn)


# ---------------------------------------------------------------- all of them

COMMANDS: dict[str, Callable[[Path, int, random.Random], Toll]] = {
    "sync": sync,
    "replay": replay,
    "publish": publish,
    "export": exported,
    "migrate": moved,
}

HEADS = (
    "killed",
    "kills",
    "facts lost",
    "facts doubled",
    "seen half done",
    "requests repeated by one kill, at most",
    "in all",
)


def _line(toll: Toll) -> tuple[str, ...]:
    repeats = (str(max(toll.repeats)), str(sum(toll.repeats))) if toll.repeats else ("-", "-")
    return (toll.command, *map(str, (toll.kills, toll.lost, toll.doubled, toll.torn)), *repeats)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kills", type=int)
    parser.add_argument("--seed", type=int, default=1)
    said = parser.parse_args()
    tolls = []
    for command, act in COMMANDS.items():
        with tempfile.TemporaryDirectory(prefix=f"chaos-{command}-") as folder:
            kills = max(1, said.kills * SHARES[command] // sum(SHARES.values()))
            tolls.append(act(Path(folder), kills, random.Random(f"{said.seed} {command}")))
        print(*_line(tolls[-1]), sep="\t", file=sys.stderr, flush=True)
    every = Toll(
        "all",
        kills=sum(toll.kills for toll in tolls),
        lost=sum(toll.lost for toll in tolls),
        doubled=sum(toll.doubled for toll in tolls),
        torn=sum(toll.torn for toll in tolls),
        repeats=[number for toll in tolls for number in toll.repeats],
    )
    print(markdown(HEADS, map(_line, (*tolls, every))))
    return 0 if all(toll.is_none for toll in tolls) else 1


if __name__ == "__main__":
    sys.exit(main())
