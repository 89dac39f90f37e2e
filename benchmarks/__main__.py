"""``python -m benchmarks [NAME…] [--short]``: measures what is named, or all, shows a table and writes ``results.json``."""

import argparse
import json
import os
import sys
from importlib import import_module
from pathlib import Path

from benchmarks.figure import Figure, table

WORKS = ("start", "nights", "windows", "load", "backfill", "views", "scale")
RESULTS = Path(__file__).with_name("results.json")


def main() -> int:
    """Exit code 0 whatever was measured: what must hold is asserted by the tests, on the short form."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(WORKS)}")
    parser.add_argument("--short", action="store_true", help="small sizes: minutes become seconds, and ratios say less")
    said = parser.parse_args()
    if strangers := {*said.names} - {*WORKS}:
        parser.error(f"unknown: {', '.join(sorted(strangers))}")
    figures: list[Figure] = []
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    for name in said.names or WORKS:
        found = []
        for figure in import_module(f"benchmarks.{name}").measure(short=said.short):
            print(f"{figure.name}: {figure.cost:.3g} {figure.unit}".rstrip(), flush=True)
            found.append(figure)
        results[name] = {
            "short": said.short,
            "load": os.getloadavg(),
            "figures": [figure.as_json() for figure in found],
        }
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        figures += found
    print(
        f"\n{table(figures)}\n\nload of the machine over the last minutes: {' '.join(f'{load:.1f}' for load in os.getloadavg())}"
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
