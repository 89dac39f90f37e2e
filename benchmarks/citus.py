"""Many accounts on Citus with one and two workers, beside plain PostgreSQL. All servers share this machine's cores."""

import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import NamedTuple

from benchmarks.figure import Figure
from etl.warehouse import migrate
from etl.warehouse.engine import open_warehouse
from tests.chaos.fleet import Fleet
from tests.postgres import distribute, new_database, run_sql, start_cluster

PROCESSES, QUEUES = 4, 3

QUESTION = "select queue, month, sum(money) from spending_monthly group by queue, month"


class Place(NamedTuple):
    """What one kind of server needed, in seconds."""

    first: float
    night: float
    question: float


def measure(*, short: bool) -> Iterator[Figure]:
    accounts, days = (8, 10) if short else (200, 30)
    plain = _run(new_database(), accounts, days)
    yield from _figures("PostgreSQL", plain, accounts, None)
    first = None
    for workers in (1, 2):
        with ExitStack() as stack:
            cluster = start_cluster(workers)
            stack.callback(cluster.stop)
            url = cluster.create_database("fleet").render_as_string()
            migrate.upgrade(open_warehouse(url))
            distribute(url)
            place = _run(url, accounts, days)
        yield from _figures(f"Citus, {workers} worker{'s' * (workers > 1)}", place, accounts, first)
        first = first or place


def _run(url: str, accounts: int, days: int) -> Place:
    with tempfile.TemporaryDirectory() as folder, ExitStack() as stack:
        fleet = Fleet(Path(folder), accounts, days, QUEUES, PROCESSES, seed=1, warehouse=url)
        for sandbox in fleet.sandboxes.values():
            stack.enter_context(sandbox)
        fleet.write_toml()
        first, night = _sync(fleet), _sync(fleet)
        if fleet.wrong():
            raise RuntimeError(f"accounts that are not exact: {fleet.wrong()}")
    return Place(first, night, median(_seconds(url) for _ in range(5)))


def _sync(fleet: Fleet) -> float:
    began = perf_counter()
    processes = [fleet.start(part) for part in range(fleet.processes)]
    codes = [process.wait() for process in processes]
    if any(codes):
        raise RuntimeError(f"exit codes {codes}")
    return perf_counter() - began


def _seconds(url: str) -> float:
    began = perf_counter()
    run_sql(url, QUESTION)
    return perf_counter() - began


def _figures(name: str, place: Place, accounts: int, one_worker: Place | None) -> Iterator[Figure]:
    remark = f"{one_worker.night / place.night:.2f} times as many as with one worker" if one_worker else ""
    yield Figure(f"{name}: first syncs", accounts / place.first * 60, None, "a minute", of=f"{accounts} accounts")
    yield Figure(f"{name}: nightly syncs", accounts / place.night * 60, None, "a minute", remark=remark)
    yield Figure(f"{name}: one night of {accounts} accounts", place.night, None, "s")
    yield Figure(f"{name}: spend by queue and month of all accounts", place.question * 1000, None, "ms")
