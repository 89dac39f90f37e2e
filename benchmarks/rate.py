"""Four shards that share one rate limit through PostgreSQL: how many requests a second the API sees, and the price."""

import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from pathlib import Path

from benchmarks.cost import ROOT
from benchmarks.figure import Figure
from etl.clock import Clock
from etl.load.rate_limits import ServerSchedule
from etl.sandbox.behaviour import Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.warehouse.engine import open_warehouse
from tests.postgres import migrated, new_database, server_seconds

RATE, PROCESSES, ACCOUNTS = 20, 4, 16
PAUSE = 5
"""Seconds that the API asks for in its 429 response."""

RESERVATIONS = 3000


def measure(*, short: bool) -> Iterator[Figure]:
    seconds = 10 if short else 60
    for name, kill, fault in (("", False, False), (", one killed", True, False), (", one 429", False, True)):
        yield from _run(name, seconds, kill=kill, fault=fault)
    yield from _price()


def _run(name: str, seconds: int, *, kill: bool, fault: bool) -> Iterator[Figure]:
    """Let the shards sync for some seconds, and look at what the API saw."""
    throttle = (Fault(FaultKind.RETRY_AFTER, numbers=(RATE * seconds // 2,), retry_after=str(PAUSE)),) if fault else ()
    begins = datetime.now(UTC).date() - timedelta(days=2000)
    dataset = Dataset.always_active(begins=begins, queues=3)
    with tempfile.TemporaryDirectory() as folder, Sandbox(dataset, Behaviour(unknown_queue="zeros"), throttle) as api:
        processes = [
            _start(Path(folder), api.url, part, warehouse)
            for warehouse in [new_database(like=migrated())]
            for part in range(PROCESSES)
        ]
        while not api.requests:
            time.sleep(0.01)  # noqa: TID251 - waits for the first request
        time.sleep(seconds / 2)  # noqa: TID251
        if kill:
            processes[0].kill()
        time.sleep(seconds / 2)  # noqa: TID251
        for process in processes:
            process.kill()
            process.wait()
        starts = sorted((request.at - api.requests[0].at).total_seconds() for request in api.requests)
    starts = [start for start in starts if start <= seconds]
    by_second = Counter(int(start) for start in starts)
    gap = max(later - earlier for earlier, later in pairwise(starts))
    remark = f"worst second {max(by_second.values())}, longest pause {gap:.1f} s"
    pause = PAUSE if fault else 0
    yield Figure(
        f"{PROCESSES} shards at {RATE} a second{name}",
        len(starts) / (seconds - pause),
        RATE * 1.02,
        "requests a second",
        remark=remark,
    )


def _start(folder: Path, url: str, part: int, warehouse: str) -> "subprocess.Popen[bytes]":
    names = [f"account-{number:02}" for number in range(ACCOUNTS)]
    tables = [f'[accounts.{name}]\nclient_key_env = "KEY_{number}"\n' for number, name in enumerate(names)]
    (folder / "anticaptcha-etl.toml").write_text("\n".join(tables))
    variables = {
        "ANTICAPTCHA_API_URL": url, "ANTICAPTCHA_WAREHOUSE": warehouse, "ANTICAPTCHA_SHARD": f"{part}/{PROCESSES}",
        "ANTICAPTCHA_RATE": str(RATE), "XDG_STATE_HOME": str(folder / "state"), "PYTHONPATH": str(ROOT),
        **{f"KEY_{number}": f"key-of-{name}-0123456789" for number, name in enumerate(names)},
    }  # fmt: skip
    command = [sys.executable, "-m", "etl", "sync", "--all", "--quiet"]
    with (folder / f"{part}.log").open("ab") as log:
        return subprocess.Popen(command, cwd=folder, env=variables, stdout=log, stderr=log)


def _price() -> Iterator[Figure]:
    """Reservations one after the other, without waiting for the reserved start."""
    schedule = ServerSchedule(open_warehouse(new_database(like=migrated())), "api.example", Clock())
    schedule.reserve(0)
    began, server_began, used = time.perf_counter(), server_seconds(), os.times()
    for _ in range(RESERVATIONS):
        schedule.reserve(0)
    spent, seconds = os.times(), time.perf_counter() - began
    own = spent.user + spent.system - used.user - used.system
    server = server_seconds() - server_began
    remark = f"server: {1000 * server / RESERVATIONS:.2f} ms; answered after {1000 * seconds / RESERVATIONS:.2f} ms"
    yield Figure("processor time of a reservation", 1000 * own / RESERVATIONS, None, "ms", remark=remark)
