"""Cost of nightly syncs: with nothing new, and on a small, a medium and a large warehouse."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import sqlalchemy as sa

from benchmarks.cost import MEGABYTE, Cost, python
from benchmarks.figure import Figure
from benchmarks.history import Shape, fill
from benchmarks.service import Account, serving
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import upgrade

SMALL = Shape(accounts=1, days=617, nights=90, has_unattributed=False)
LARGE = Shape(accounts=20, days=3085, nights=365, has_unattributed=False)
MEDIUM = Shape(accounts=6, days=1028, nights=180, has_unattributed=False)
"""100 thousand, 1 million and 10 million facts."""


def measure(*, short: bool) -> Iterator[Figure]:
    yield from quiet(short=short)
    yield from _lookback([SMALL] if short else [SMALL, MEDIUM, LARGE], rounds=3)


def quiet(*, short: bool) -> Iterator[Figure]:
    """Thirty nights with nothing new; ten with --short."""
    account = Account(days=10, queues=5, at_once=5) if short else Account(days=365, queues=5, at_once=5)
    nights = 10 if short else 30
    with tempfile.TemporaryDirectory() as folder, serving(account) as url:
        file = Path(folder) / "warehouse.duckdb"
        arguments = (folder, url, 8, *account)
        python("sync_once", *arguments)
        before = file.stat().st_size
        sizes, rewritten = {}, 0
        for night in range(1, nights + 1):
            result = python("sync_once", *arguments).result
            rewritten += result["inserted"] + result["changed"]
            if night in (1, 10, nights):
                sizes[night] = (file.stat().st_size - before) / MEGABYTE
    yield Figure(f"{nights} nights with nothing new, facts rewritten", rewritten, 0, "facts")
    growth = {night: size for night, size in sizes.items() if size > 0}
    yield Figure(
        f"{nights} nights with nothing new, growth of the file",
        sizes[nights],
        1,
        "MB",
        of="MB, by nights",
        sizes=growth,
    )


def _lookback(shapes: list[Shape], rounds: int) -> Iterator[Figure]:
    """Whole nightly syncs, and the time they spend in the database, checks included."""
    whole: dict[int, float] = {}
    database: dict[int, float] = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            facts = filled(Path(folder), shape)
            costs = list(_nights(Path(folder), shape, rounds))
        whole[facts] = median(cost.seconds for cost in costs)
        database[facts] = median(cost.result["database"] for cost in costs)
    smallest, largest = min(whole), max(whole)
    at = f"{largest:,} facts"
    yield Figure(
        f"a night on {at}",
        whole[largest] / whole[smallest],
        1.3,
        floor=f"{smallest:,} facts",
        of="s, by facts",
        sizes=whole,
    )
    yield Figure(f"a night on {at}, in the database", database[largest], 0.25, "s", of="s, by facts", sizes=database)


def filled(folder: Path, shape: Shape) -> int:
    """Fill a new warehouse in a folder and return the number of facts."""
    engine = open_warehouse(warehouse_url(str(folder / "warehouse.duckdb")))
    upgrade(engine)
    with engine.begin() as connection:
        facts = fill(connection, shape)
        connection.execute(sa.text("update internal.accounts set hour_offset_seconds = 0, full_day_from_snapshot = 1"))
    return facts


def _nights(folder: Path, shape: Shape, rounds: int) -> Iterator[Cost]:
    """Skip the first sync, which re-reads the open days because this API differs from the generated history."""
    for night in range(1 + rounds):
        account = Account(shape.days, queues=6, at_once=6, night=night)
        with serving(account, prepared=10) as url:
            cost = python("sync_once", folder, url, 4, *account)
        if night:
            yield cost
