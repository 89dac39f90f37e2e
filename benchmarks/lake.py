"""Ship a night of 1, 200 and 10,000 accounts to a local lake with several numbers of buckets, and to an S3 stand-in."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from time import perf_counter

import pytest
import sqlalchemy as sa

from benchmarks.figure import Figure
from etl.clock import Clock
from etl.outputs.lake import delta
from etl.outputs.lake.push import push
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import upgrade
from tests.chaos.object_store import object_store

DAYS, NIGHT = 45, 5
"""Days in the warehouse, and those that a night changes."""


DOLLARS = {"GET": 0.0004e-3, "HEAD": 0.0004e-3, "PUT": 0.005e-3, "POST": 0.005e-3, "DELETE": 0.0}
"""List price of a request to S3 Standard in us-east-1."""


def measure(*, short: bool) -> Iterator[Figure]:
    for accounts in (1, 20) if short else (1, 200, 10_000):
        for buckets in (16,) if short else (4, 16, 64):
            yield from _local(accounts, buckets)
    for accounts in () if short else (1, 200):
        yield from _remote(accounts)


def _local(accounts: int, buckets: int) -> Iterator[Figure]:
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        patch.setattr(delta, "BUCKETS", buckets)
        lake = Path(folder) / "lake"
        url, first = _fill(folder, str(lake), accounts)
        size = _bytes(lake)
        nights = []
        for step in (1, 2, 3):
            before = _bytes(lake)
            nights.append((_night(url, str(lake), step), _bytes(lake) - before))
    seconds, written = sorted(nights)[1]
    changed = size * NIGHT / DAYS
    name = f"lake, {accounts:,} accounts, {buckets} buckets"
    remark = (
        f"first shipment {first:.1f} s, {size / 1e6:.1f} MB; a night writes {written / changed:.1f} times what changed"
    )
    yield Figure(name, seconds, None, "s a night", remark=remark)


def _remote(accounts: int) -> Iterator[Figure]:
    with object_store() as store, tempfile.TemporaryDirectory() as folder:
        url, first = _fill(folder, store.location, accounts)
        nights = []
        for step in range(1, 12):  # so that one of them writes a checkpoint
            before = store.requests()
            seconds = _night(url, store.location, step)
            nights.append((seconds, {name: after - before[name] for name, after in store.requests().items()}))
    mean = {name: sum(requests[name] for _, requests in nights) / len(nights) for name in DOLLARS}
    dollars = sum(price * mean[name] for name, price in DOLLARS.items())
    remark = (
        f"first shipment {first:.1f} s; {mean['GET'] + mean['HEAD']:.0f} reading and {mean['PUT'] + mean['POST']:.0f} "
        f"writing requests a night, ${dollars * 365:.2f} a year"
    )
    yield Figure(
        f"lake on S3, {accounts:,} accounts", median(seconds for seconds, _ in nights), None, "s a night", remark=remark
    )


def _fill(folder: str, location: str, accounts: int) -> tuple[str, float]:
    """A warehouse with all but the nights, and the seconds of its first shipment."""
    url = warehouse_url(f"{folder}/w.duckdb")
    engine = open_warehouse(url)
    upgrade(engine)
    _execute(engine, "lake", n=accounts, days=DAYS)
    engine.dispose()
    return url, _push(url, location)


def _night(url: str, location: str, step: int) -> float:
    engine = open_warehouse(url)
    _execute(engine, "lake_night", days=DAYS, night=NIGHT, step=step)
    engine.dispose()
    return _push(url, location)


def _execute(engine: sa.Engine, file: str, **params: int) -> None:
    with engine.begin() as connection:
        for statement in Path(__file__).with_name(f"{file}.sql").read_text().split(";\n"):
            if statement.strip():
                connection.execute(
                    sa.text(statement), {name: params[name] for name in params if f":{name}" in statement}
                )


def _push(url: str, location: str) -> float:
    began = perf_counter()
    push(url, location, Clock(), wait=5)
    return perf_counter() - began


def _bytes(lake: Path) -> int:
    """All files, those of earlier versions too."""
    return sum(file.stat().st_size for file in lake.rglob("*") if file.is_file())
