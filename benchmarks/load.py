"""Load two years of 100 series from memory, first and again unchanged, against one MERGE from Arrow."""

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

from benchmarks import peers
from benchmarks.cost import MEGABYTE, Cost, cost, python
from benchmarks.figure import Figure

SERIES = 100
DAYS = (183, 365, 730)
SHORT = (10, 20, 40)
FEW = 5
"""Days loaded with executemany, which is too slow for more."""


def measure(*, short: bool) -> Iterator[Figure]:
    sizes = SHORT if short else DAYS
    first: dict[int, float] = {}
    again: dict[int, float] = {}
    peaks: list[float] = []
    for days in sizes:
        rounds = 3 if days == sizes[-1] and not short else 1
        ours = [_twice(_load, days, "warehouse.duckdb") for _ in range(rounds)]
        floor = [_twice(_merge, days, "arrow.duckdb") for _ in range(rounds)]
        facts = days * SERIES * 24
        first[facts], again[facts] = (median(_loading(costs[number]) for costs, _ in ours) for number in (0, 1))
        peaks = [cost.peak for costs, _ in ours for cost in costs]
    assert [(cost.result["inserted"], cost.result["changed"]) for cost in ours[-1][0]] == [(facts, 0), (0, 0)]
    floors = [median(_loading(costs[number]) for costs, _ in floor) for number in (0, 1)]
    name = f"load {facts:,} facts"
    floor_name, of = "one MERGE from Arrow", "s, by facts"
    yield Figure(f"{name}, first", first[facts] / floors[0], 12, floor=floor_name, of=of, sizes=first)
    yield Figure(f"{name}, again unchanged", again[facts] / floors[1], 12, floor=floor_name, of=of, sizes=again)
    yield Figure(f"{name}, memory", max(peaks), 400, "MB")
    yield Figure(f"{facts:,} facts, file", ours[-1][1] / MEGABYTE, 30 * facts / 1_752_000, "MB")
    yield Figure("  of one MERGE from Arrow", floor[-1][1] / MEGABYTE, None, "MB")
    yield from _beside_executemany(1 if short else 3)


def _beside_executemany(rounds: int) -> Iterator[Figure]:
    ours = [_twice(_load, FEW, "warehouse.duckdb")[0] for _ in range(rounds)]
    theirs = [_twice(_executemany, FEW, "executemany.duckdb")[0] for _ in range(rounds)]
    for number, name in enumerate(("first", "again unchanged")):
        mine, peer = (median(_loading(costs[number]) for costs in of) for of in (ours, theirs))
        yield Figure(f"{FEW * SERIES * 24:,} facts, {name}", mine / peer, None, floor="SQLAlchemy's executemany")


def _twice(run: Callable[[str, int], Cost], days: int, file: str) -> tuple[list[Cost], int]:
    """Return the costs of a first and a second load, and the bytes of the file after the first."""
    with tempfile.TemporaryDirectory() as folder:
        first = run(folder, days)
        size = (Path(folder) / file).stat().st_size
        return [first, run(folder, days)], size


def _load(folder: str, days: int) -> Cost:
    return python("load_once", folder, days, SERIES)


def _merge(folder: str, days: int) -> Cost:
    python_of_dlt = str(peers.environment("dlt") / "python")  # it has Arrow, which this program does not need
    return cost(python_of_dlt, peers.program("arrow_merge"), folder, str(days), str(SERIES))


def _executemany(folder: str, days: int) -> Cost:
    return python("peers.executemany", folder, days, SERIES)


def _loading(cost: Cost) -> float:
    """Return the seconds of the whole process without making the records."""
    return cost.seconds - float(cost.result["made"])
