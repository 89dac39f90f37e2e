"""``python -m benchmarks [NAME…] [--short]``: measure some or all, print a table and write ``results.json``."""

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.figure import Figure, table

BENCHMARKS = ("start", "nights", "windows", "load", "backfill", "views", "scale")
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Return 0 whatever was measured; tests assert what must hold, with --short."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(BENCHMARKS)}")
    parser.add_argument("--short", action="store_true", help="small sizes: takes minutes, but ratios mean less")
    arguments = parser.parse_args()
    if unknown := {*arguments.names} - {*BENCHMARKS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    figures: list[Figure] = []
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in arguments.names or BENCHMARKS:
        found = []
        for figure in import_module(f"benchmarks.{name}").measure(short=arguments.short):
            print(f"{figure.name}: {figure.cost:.3g} {figure.unit}".rstrip(), flush=True)
            found.append(figure)
        results[name] = {
            "short": arguments.short,
            "load": os.getloadavg(),
            "figures": [figure.as_json() for figure in found],
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        figures += found
    print(f"\n{table(figures)}\n\nload average: {' '.join(f'{load:.1f}' for load in os.getloadavg())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
