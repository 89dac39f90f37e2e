"""``publish`` of a million facts from PostgreSQL, as a whole process."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks.cost import etl, write_settings
from benchmarks.figure import Figure
from benchmarks.nights import MEDIUM, SMALL, filled
from tests.postgres import new_database


def measure(*, short: bool) -> Iterator[Figure]:
    with tempfile.TemporaryDirectory() as folder:
        facts = filled(Path(folder), SMALL if short else MEDIUM)
        write_settings(folder)
        database = new_database()
        etl(folder, "transfer", Path(folder) / "warehouse.duckdb", database)
        copy = Path(folder) / "copy.duckdb"
        runs = [etl(folder, "publish", copy, "--warehouse", database) for _ in range(1 if short else 3)]
    yield Figure(f"publish of {facts:,} facts from PostgreSQL", median(run.seconds for run in runs), 5, "s")
