"""``python -m benchmarks [NAME...] [--short] [--table]``: measure some or all, print tables, write ``results.json``."""

import argparse
import json
import os
import sys
from importlib import import_module
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from benchmarks import compare
from benchmarks.figure import Figure, table

BENCHMARKS = (
    "start",
    "opens",
    "windows",
    "backfill",
    "nights",
    "load",
    "publish",
    "compare",
    "views",
    "scale",
    "rate",
    "citus",
    "lake",
    "lake_scale",
    "life",
)
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Return 0 whatever was measured, 1 if a benchmark failed; tests assert what must hold, with --short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--short", action="store_true", help="small sizes: takes minutes, but ratios mean less")
    parser.add_argument("--table", action="store_true", help="measure nothing, print the tables of the last results")
    arguments = parser.parse_args()
    if unknown := {*arguments.names} - {*BENCHMARKS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    names = arguments.names or BENCHMARKS
    for name in names if not arguments.table else ():
        process = get_context("fork").Process(target=_measure, args=(name, arguments.short))
        process.start()
        process.join()
        if process.exitcode:
            return 1
    results = _results()
    figures = {
        name: [Figure.from_json(fields) for fields in results[name]["figures"]] for name in names if name in results
    }
    print(f"\n{table(one for name, some in figures.items() if name != 'compare' for one in some)}")
    if "compare" in figures:
        print(f"\n{compare.table(figures['compare'])}")
    return 0


def _measure(name: str, short: bool) -> None:
    """Run one benchmark. Each has a process of its own, because a child is said to use what its parent used before."""
    found = []
    for figure in import_module(f"benchmarks.{name}").measure(short=short):
        print(f"{figure.name}: {figure.cost:.3g} {figure.unit}".rstrip(), figure.remark, flush=True)
        found.append(figure.as_json())
    result = {"short": short, "load": os.getloadavg(), "figures": found}
    RESULTS.write_text(json.dumps({**_results(), name: result}, indent=1) + "\n")


def _results() -> dict[str, Any]:
    loaded: dict[str, Any] = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    return loaded


if __name__ == "__main__":
    sys.exit(main())
