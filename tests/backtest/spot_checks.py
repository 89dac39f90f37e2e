"""``python -m tests.backtest.spot_checks``: late corrections of any age, and how often spot checks find them.

Each account is a copy of one synced warehouse, in which the service doubles one to five days in a row. Its syncs are
those of the program, over HTTP.
"""

import argparse
import random
import shutil
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import NamedTuple

from etl.extract.planner import choose_spot_checks
from tests.e2e.world import WITHOUT_RETRIES, World, ago, small

HISTORY_DAYS = 405
NIGHTS = 5
CHECKS = 20
AGES = ((5, 20), (21, 60), (61, 150), (151, 400))
SAMPLES = 1_500


class Trial(NamedTuple):
    """``expected`` is the probability that one of the changed days is drawn in one of the nights."""

    age: int
    days: int
    is_found: bool
    expected: float


@cache
def probability_of_a_night(first: int, days: int) -> float:
    """The share of draws that has one of the days."""
    final = frozenset(ago(age) for age in range(4, HISTORY_DAYS + 6))
    changed = {ago(age) for age in range(first, first + days)}
    draws = (choose_spot_checks(final, ago(0), CHECKS, f"theory {number}").days for number in range(SAMPLES))
    return sum(bool(draw & changed) for draw in draws) / SAMPLES


def trials(seed: str, count: int, template: str) -> list[Trial]:
    draw, found = random.Random(seed), []
    with tempfile.TemporaryDirectory() as folder:
        world = World(Path(folder), small(HISTORY_DAYS), WITHOUT_RETRIES)
        dataset = world.sandbox.dataset
        with world:
            for number in range(count):
                shutil.copy(template, world.file)
                low, high = AGES[number % len(AGES)]
                age, days = draw.randint(low, high), draw.randint(1, min(5, high - low))
                changed = [ago(one) for one in range(age, age + days)]
                world.sandbox.dataset = replace(
                    dataset, late_corrections=tuple((day, world.now - timedelta(hours=1)) for day in changed)
                )
                chance = 1 - (1 - probability_of_a_night(age, days)) ** NIGHTS
                found.append(Trial(age, days, _is_found(world, changed), chance))
    return found


def _is_found(world: World, changed: list[date]) -> bool:
    for _ in range(NIGHTS):
        world.now += timedelta(seconds=1)  # another seed
        if world.sync(spot_checks=CHECKS).exit_code != 0:
            raise AssertionError("a sync failed")
        revised = {day for (day,) in world.rows("select distinct day from spending_revisions where day < %s", ago(4))}
        if revised:
            if revised != {*changed}:
                raise AssertionError(f"changed {sorted(changed)}, found {sorted(revised)}")
            if world.hourly() != world.expected_rows():
                raise AssertionError("the warehouse differs from the service's books")
            return True
    return False


def run(count: int, seed: str) -> Iterator[Trial]:
    with tempfile.TemporaryDirectory() as folder, World(Path(folder), small(HISTORY_DAYS), WITHOUT_RETRIES) as world:
        world.sync()
        with ProcessPoolExecutor(2) as pool:
            for part in pool.map(trials, (f"{seed} 1", f"{seed} 2"), (count // 2,) * 2, (str(world.file),) * 2):
                yield from part


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--accounts", type=int, default=500)
    parser.add_argument("--seed", default="spot checks")
    options = parser.parse_args()
    found = list(run(options.accounts, options.seed))
    print(f"{CHECKS} spot checks in each of {NIGHTS} nights, {HISTORY_DAYS} days of history\n")
    print("| Age of the correction | Accounts | Found | Predicted |\n| --- | ---: | ---: | ---: |")
    for low, high in (*AGES, (AGES[0][0], AGES[-1][1])):
        chosen = [one for one in found if low <= one.age <= high]
        share, expected = sum(one.is_found for one in chosen), sum(one.expected for one in chosen)
        print(f"| {low} to {high} days | {len(chosen)} | {share / len(chosen):.1%} | {expected / len(chosen):.1%} |")
    sys.stdout.flush()


if __name__ == "__main__":
    main()
