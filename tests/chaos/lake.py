"""Ship many accounts from one PostgreSQL to a lake with several processes, night after night, and kill some of them.

``python -m tests.chaos.lake ACCOUNTS --nights N --kills N --faults SHARE --seed N`` uses an S3 stand-in of which a share of
requests fails; exit code 1 if the lake is not exactly the warehouse, or the warehouse not the API's data.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import NamedTuple

from etl.clock import Clock
from etl.config import Shard
from etl.outputs.lake import delta
from etl.outputs.lake.push import push
from etl.outputs.lake.tables import POSITIONS
from etl.sandbox.dataset import Dataset
from tests.chaos.object_store import ObjectStore, object_store
from tests.e2e import world as worlds
from tests.e2e.world import World, ago
from tests.postgres import migrated, new_database, run_sql

MAX_FAILURES = 500

PUSH = """
import sys
from etl.clock import Clock
from etl.outputs.lake.push import push
from etl.errors import WarehouseError
try:
    push(sys.argv[1], sys.argv[2], Clock(), wait=30, names=sys.argv[3:])
except WarehouseError:
    sys.exit(4)
"""


class LakeRun(NamedTuple):
    """``failures``: processes that gave up and were started again. ``wrong``: what differs at the end. ``seconds``: of a
    night's shipments, kills included, by night. ``requests``: by method and fault, to an object store."""

    accounts: int
    kills: int
    failures: int
    shipments: int
    files: int
    size: int
    wrong: tuple[str, ...]
    seconds: tuple[float, ...]
    requests: dict[str, int]


def run(
    folder: Path,
    target: str | ObjectStore,
    accounts: int,
    *,
    shards: int,
    nights: int,
    kills: int,
    seed: int,
    faults: float = 0.0,
) -> LakeRun:
    """Each night sync all accounts, then let a process for each shard ship its accounts; kill them now and then, and
    let this share of the requests to an object store fail."""
    store = target if isinstance(target, ObjectStore) else ObjectStore(target)
    location, failures = store.location, 0
    source = random.Random(seed)
    warehouse = new_database(like=migrated())
    seconds = []
    with ExitStack() as stack:
        every = {name: stack.enter_context(_account(folder, name, warehouse)) for name in map(_name, range(accounts))}
        for night in range(nights):
            with ThreadPoolExecutor(4) as pool:
                list(pool.map(_sync, every.values()))
            parts = [[name for name in every if Shard(part, shards).has(name)] for part in range(shards)]
            began, due = time.monotonic(), kills * (night + 1) // nights - kills * night // nights
            store.fail(faults)
            failures += _ship(warehouse, location, [part for part in parts if part], due, source)
            store.fail(0)
            seconds.append(round(time.monotonic() - began, 1))
            for world in every.values():
                world.now += timedelta(days=1)
        assert push(warehouse, location, Clock(), wait=5).accounts == 0
        expected = {
            (name, queue, hour, volume, money)
            for name, world in every.items()
            for (queue, hour), (volume, money) in _expected(world).items()
        }
    lake = delta.open_lake(location, create=False)
    wrong = [
        name for name, table in lake.tables.items() if name != POSITIONS and not _is_equal(warehouse, location, table)
    ]
    hours = {row[:3] + row[4:6] for row in delta.read(lake.tables["spending_hourly"], location)}
    wrong += ["the API's data"] * (hours != expected)
    shipments = sum(row[2] for row in delta.read(lake.tables[POSITIONS], location))
    sizes = [delta.sizes(table, location) for table in lake.tables.values()]
    files, size = (sum(column) for column in zip(*sizes, strict=True))
    return LakeRun(accounts, kills, failures, shipments, files, size, tuple(wrong), tuple(seconds), store.requests())


def _name(number: int) -> str:
    return f"agency-{number:04}"


def _account(folder: Path, name: str, warehouse: str) -> World:
    (folder / name).mkdir()
    dataset = Dataset(seed=int(name[-4:]), begins=ago(4), queues=2, idle_weeks=0, turnover=False, corrections=True)
    world = World(folder / name, dataset, worlds.WITHOUT_RETRIES)
    world.warehouse = warehouse
    return world


def _sync(world: World) -> None:
    name = world.folder.name
    assert world.sync(account=name, key=f"key-of-{name}-0123456789", since=str(ago(6)), lookback=30).exit_code == 0


def _expected(world: World) -> worlds.Hours:
    """What the API said when it was last asked: one day before ``now``, which was moved on after the last night."""
    world.now -= timedelta(days=1)
    return world.expected_rows()


def _ship(warehouse: str, location: str, parts: list[list[str]], kills: int, source: random.Random) -> int:
    """Return how many processes ended with an error and were started again, as the next sync would."""
    failures = 0
    running = {number: _start(warehouse, location, names) for number, names in enumerate(parts)}
    until = time.monotonic() + source.uniform(0.2, 2)
    while running:
        threading.Event().wait(0.02)
        for number, process in list(running.items()):
            if process.poll() == 0:
                del running[number]
            elif process.poll() is not None:
                running[number] = _start(warehouse, location, parts[number])
                failures += 1
                assert failures < MAX_FAILURES
        if kills and running and time.monotonic() > until:
            number = source.choice(sorted(running))
            running[number].send_signal(signal.SIGKILL)
            running[number].wait()
            running[number] = _start(warehouse, location, parts[number])
            kills, until = kills - 1, time.monotonic() + source.uniform(0.1, 1.5)
    return failures


def _start(warehouse: str, location: str, names: list[str]) -> "subprocess.Popen[bytes]":
    return subprocess.Popen([sys.executable, "-c", PUSH, warehouse, location, *names])


def _is_equal(warehouse: str, location: str, table: delta.Table) -> bool:
    columns = list(table.schema.columns)
    stored = Counter(run_sql(warehouse, f"select {', '.join(columns)} from {table.schema.name}"))
    return Counter(tuple(row[: len(columns)]) for row in delta.read(table, location)) == stored


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos.lake", description=__doc__)
    parser.add_argument("accounts", type=int, nargs="?", default=200)
    for name, default in (("shards", 8), ("nights", 4), ("kills", 100), ("seed", 1)):
        parser.add_argument(f"--{name}", type=int, default=default)
    parser.add_argument("--faults", type=float, default=0.01)
    options = vars(parser.parse_args())
    with tempfile.TemporaryDirectory() as folder, object_store(options["seed"]) as store:
        result = run(Path(folder), store, options.pop("accounts"), **options)
    for name, value in result._asdict().items():
        print(f"{name:<10} {f'{value:,}' if isinstance(value, int) else value}")
    return int(bool(result.wrong))


if __name__ == "__main__":
    sys.exit(main())
