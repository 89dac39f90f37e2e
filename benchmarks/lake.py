"""Ship a night of 1, 200 and 10,000 accounts to a local lake, with several numbers of buckets."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from time import perf_counter

import pytest
import sqlalchemy as sa

from benchmarks.figure import Figure
from etl.clock import Clock
from etl.outputs.lake import delta
from etl.outputs.lake.push import push
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import upgrade

DAYS, NIGHT = 45, 5
"""Days in the warehouse, and those that a night changes."""


def measure(*, short: bool) -> Iterator[Figure]:
    for accounts in (1, 20) if short else (1, 200, 10_000):
        for buckets in (16,) if short else (4, 16, 64):
            yield from _night(accounts, buckets)


def _night(accounts: int, buckets: int) -> Iterator[Figure]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(delta, "BUCKETS", buckets)
        with tempfile.TemporaryDirectory() as folder:
            url, lake = warehouse_url(f"{folder}/w.duckdb"), Path(folder) / "lake"
            engine = open_warehouse(url)
            upgrade(engine)
            _execute(engine, "lake", n=accounts, days=DAYS)
            first = _push(url, lake)
            size = _bytes(lake)
            nights = []
            for step in (1, 2, 3):
                _execute(engine, "lake_night", days=DAYS, night=NIGHT, step=step)
                before = _bytes(lake)
                nights.append((_push(url, lake), _bytes(lake) - before))
    seconds, written = sorted(nights)[1]
    changed = size * NIGHT / DAYS
    name = f"lake, {accounts:,} accounts, {buckets} buckets"
    remark = (
        f"first shipment {first:.1f} s, {size / 1e6:.1f} MB; a night writes {written / changed:.1f} times what changed"
    )
    yield Figure(name, seconds, None, "s a night", remark=remark)


def _execute(engine: sa.Engine, file: str, **params: int) -> None:
    with engine.begin() as connection:
        for statement in Path(__file__).with_name(f"{file}.sql").read_text().split(";\n"):
            if statement.strip():
                connection.execute(
                    sa.text(statement), {name: params[name] for name in params if f":{name}" in statement}
                )


def _push(url: str, lake: Path) -> float:
    began = perf_counter()
    push(url, str(lake), Clock(), wait=5)
    return perf_counter() - began


def _bytes(lake: Path) -> int:
    """All files, those of earlier versions too."""
    return sum(file.stat().st_size for file in lake.rglob("*") if file.is_file())
