"""``python -m tests.simulator --years N --seed S``: play years of nights, and say what happened in them."""

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from datetime import UTC, datetime
from functools import partial
from typing import NamedTuple, get_args

from etl.config import Environment
from tests.simulator import planted
from tests.simulator.life import LifeError, Tally, play
from tests.simulator.nights import Life, StoreKind, without_of
from tests.simulator.service import draw
from tests.simulator.shrink import shrink

LENGTHS = (15, 30, 30, 60, 120)


class Year(NamedTuple):
    """One year of nights: of several lives, which together have as many nights."""

    number: int
    tally: Tally
    seconds: float
    failure: str


def lives_of(seed: str, year: int, store: StoreKind, nights_of_a_year: int) -> Iterator[Life]:
    r, left = draw(seed, year, "lengths"), nights_of_a_year
    number = 0
    while left > 5:
        number += 1
        nights = min(r.choice(LENGTHS), left - 5)
        left -= nights + 5
        yield Life(f"{seed}.{year}.{number}", store, nights)


def play_year(seed: str, store: StoreKind, plant: str | None, nights: int, year: int) -> Year:
    began, tally, failure = time.process_time(), Tally(), ""
    with ExitStack() as stack:
        if plant:
            stack.enter_context(planted.BUGS[plant].installed())
        for life in lives_of(seed, year, store, nights):
            try:
                tally.add(play(life))
            except LifeError as error:
                tally.nights += error.night
                failure = describe(shrink(error), plant)
                break
    return Year(year, tally, time.process_time() - began, failure)


def describe(error: LifeError, plant: str | None) -> str:
    option = f" --planted {plant}" if plant else ""
    ends = f" --undisturbed {error.life.undisturbed}" if error.life.undisturbed != Life("").undisturbed else ""
    return f"{error}\n\nrepeat it with: {error.life.command}{ends}{option}"


def line(year: Year) -> str:
    tally = year.tally
    return (
        f"year {year.number}: {tally.nights} nights, {tally.requests} requests, {tally.kills.total()} kills, "
        f"{tally.faults.total()} faults, {year.seconds:.1f} s"
    )


def summary(years: list[Year], seconds: float) -> Iterator[str]:
    tally = Tally()
    for year in years:
        tally.add(year.tally)
    cpu = sum(year.seconds for year in years)
    yield (
        f"{len(years)} years: {tally.nights} nights, {tally.requests} requests, {tally.snapshots} responses stored, "
        f"{seconds:.0f} s, {cpu:.0f} s of processor time, {tally.nights / max(cpu, 1e-9):.0f} nights a second"
    )
    for title, counts in (("faults", tally.faults), ("kills", tally.kills), ("events", tally.events)):
        yield f"{title} ({counts.total()}): " + ", ".join(f"{name} {number}" for name, number in counts.most_common())


def main() -> int:
    options = _options()
    if options.life:
        return _repeat(options)
    began, years = time.monotonic(), list[Year]()
    play_one = partial(play_year, options.seed, options.store, options.planted, options.nights_of_a_year)
    numbers = range(1, options.years + 1)
    with ProcessPoolExecutor(options.jobs) as pool:
        for year in pool.map(play_one, numbers) if options.jobs > 1 else map(play_one, numbers):
            years.append(year)
            print(line(year), flush=True)
            if year.failure:
                print(year.failure, flush=True)
                pool.shutdown(cancel_futures=True)
                break
    print(*summary(years, time.monotonic() - began), sep="\n")
    return 1 if years[-1].failure else 0


def _repeat(options: argparse.Namespace) -> int:
    """Play one life again."""
    life = Life(options.life, options.store, options.nights, without_of(options.without), options.undisturbed)
    with ExitStack() as stack:
        if options.planted:
            stack.enter_context(planted.BUGS[options.planted].installed())
        try:
            tally = play(life)
        except LifeError as error:
            print(error)
            return 1
    print(f"{tally.nights} nights: no failure")
    return 0


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--years", type=int, default=1)
    parser.add_argument("--nights-of-a-year", type=int, default=365)
    parser.add_argument("--seed", default=f"{datetime.now(UTC):%Y%m%d}", help="default: today's date")
    parser.add_argument("--store", choices=get_args(StoreKind), default="memory")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--planted", choices=sorted(planted.BUGS), help="with one of the planted bugs")
    parser.add_argument("--life", help="play only this life")
    parser.add_argument("--nights", type=int, default=30)
    parser.add_argument("--undisturbed", type=int, default=Life("").undisturbed)
    parser.add_argument("--without", default="", help="NIGHT:EVENT,... that are left out")
    return parser.parse_args()


if __name__ == "__main__":
    environ = Environment.here().environ
    if environ.get("PYTHONHASHSEED") != "0":  # the order of sets decides what happens, too
        command = [sys.executable, "-m", "tests.simulator", *sys.argv[1:]]
        os.execve(sys.executable, command, {**environ, "PYTHONHASHSEED": "0"})
    sys.exit(main())
