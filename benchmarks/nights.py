"""What nights cost: those with nothing new, and those on a small and on a large warehouse."""

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

LEAST = Shape(accounts=1, days=617, nights=90, unattributed_by_hour=False)
MOST = Shape(accounts=20, days=3085, nights=365, unattributed_by_hour=False)
MIDDLE = Shape(accounts=6, days=1028, nights=180, unattributed_by_hour=False)
"""A hundred thousand facts, a million, ten millions."""


def measure(*, short: bool) -> Iterator[Figure]:
    yield from quiet(short=short)
    yield from _lookback([LEAST] if short else [LEAST, MIDDLE, MOST], rounds=3)


def quiet(*, short: bool) -> Iterator[Figure]:
    """Thirty nights that bring nothing new; ten in the short form."""
    account = Account(days=10, queues=5, at_once=5) if short else Account(days=365, queues=5, at_once=5)
    nights = 10 if short else 30
    with tempfile.TemporaryDirectory() as folder, serving(account) as url:
        file = Path(folder) / "warehouse.duckdb"
        words = (folder, url, 8, *account)
        python("sync_once", *words)
        before = file.stat().st_size
        sizes, rewritten = {}, 0
        for night in range(1, nights + 1):
            said = python("sync_once", *words).said
            rewritten += said["inserted"] + said["changed"]
            if night in (1, 10, nights):
                sizes[night] = (file.stat().st_size - before) / MEGABYTE
    yield Figure(f"{nights} nights with nothing new, facts rewritten", rewritten, 0, "facts")
    grown = {night: size for night, size in sizes.items() if size > 0}
    yield Figure(
        f"{nights} nights with nothing new, growth of the file", sizes[nights], 1, "MB", of="MB, by nights", sizes=grown
    )


def _lookback(shapes: list[Shape], rounds: int) -> Iterator[Figure]:
    """Whole nights, and of these the seconds in the database, the checks at a sync's end included."""
    whole: dict[int, float] = {}
    database: dict[int, float] = {}
    for shape in shapes:
        with tempfile.TemporaryDirectory() as folder:
            held = _filled(Path(folder), shape)
            costs = list(_nights(Path(folder), shape, rounds))
        whole[held] = median(cost.seconds for cost in costs)
        database[held] = median(cost.said["database"] for cost in costs)
    least, most = min(whole), max(whole)
    at = f"{most:,} facts"
    yield Figure(
        f"a night on {at}", whole[most] / whole[least], 1.3, floor=f"{least:,} facts", of="s, by facts", sizes=whole
    )
    yield Figure(f"a night on {at}, in the database", database[most], 0.15, "s", of="s, by facts", sizes=database)


def _filled(folder: Path, shape: Shape) -> int:
    engine = open_warehouse(warehouse_url(str(folder / "warehouse.duckdb")))
    upgrade(engine)
    with engine.begin() as connection:
        held = fill(connection, shape)
        connection.execute(sa.text("update internal.accounts set hour_offset_seconds = 0, full_day_from_snapshot = 1"))
    return held


def _nights(folder: Path, shape: Shape, rounds: int) -> Iterator[Cost]:
    """The first sync of this service reads the open days anew, which is not counted."""
    for night in range(1 + rounds):
        account = Account(shape.days, queues=6, at_once=6, night=night)
        with serving(account, prepared=10) as url:
            cost = python("sync_once", folder, url, 4, *account)
        if night:
            yield cost
