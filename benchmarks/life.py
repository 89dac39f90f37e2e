"""Ten years of nightly syncs in one warehouse: size, memory, time of a night and number of files."""

import tempfile
from collections.abc import Iterator

from benchmarks.cost import python
from benchmarks.figure import Figure

YEARS = (1, 5, 10)


def measure(*, short: bool) -> Iterator[Figure]:
    nights = 4 if short else 365
    with tempfile.TemporaryDirectory() as folder:
        marks = python("life_once", folder, nights, *YEARS).result
    by_year = {year: marks[str(year)] for year in YEARS}
    last = by_year[YEARS[-1]]
    remark = f"{last['facts']:,} facts, {last['snapshots']:,} snapshots, {last['runs']:,} runs"
    for name, unit in (("size", "MB"), ("files", "files"), ("memory", "MB"), ("night", "s")):
        sizes = {year: mark[name] for year, mark in by_year.items()}
        title = f"{YEARS[-1] * nights:,} nights, {'processor time of a night' if name == 'night' else name}"
        yield Figure(title, last[name], None, unit, of=f"{unit}, by years", sizes=sizes, remark=remark)
        remark = ""
