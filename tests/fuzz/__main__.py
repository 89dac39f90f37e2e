"""Run the doors: ``python -m tests.fuzz [DOOR...] [--count N] [--seed S]``. Exit code 1 at the first broken promise."""

import argparse
import random
import sys

from tests.fuzz import responses
from tests.fuzz.runs import DOORS, run_all

RESPONSES, MANY_RESPONSES = "responses", 1_000_000


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("doors", nargs="*", metavar="DOOR", help=f"of {', '.join((RESPONSES, *DOORS))} (default: all)")
    parser.add_argument(
        "--count", type=int, help="inputs of each door (default: a million responses, 100,000 of the others)"
    )
    parser.add_argument("--seed", type=int, help="seed of the first input (default: random)")
    arguments = parser.parse_args()
    if unknown := {*arguments.doors} - {RESPONSES, *DOORS}:
        parser.error(f"unknown: {', '.join(sorted(unknown))}")
    seed = random.SystemRandom().randrange(10**12) if arguments.seed is None else arguments.seed
    for name in arguments.doors or (RESPONSES, *DOORS):
        if name == RESPONSES:
            if responses.main(arguments.count or MANY_RESPONSES, seed):
                return 1
            continue
        failure = run_all(name, seed, arguments.count or DOORS[name].default_count)
        if failure:
            print(f"broken promise: {failure.reason}\ninput: {failure.content!r}")
            print(f"repeat: python -m tests.fuzz {name} --count 1 --seed {failure.seed}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
