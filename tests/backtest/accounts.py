"""Account-years of spending with several temperaments, and incidents planted in them. Pure; seeded."""

import math
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

WEEK = 168
WARM_UP = 10 * WEEK
"""Hours before the year begins: habits of the first hours."""
YEAR = 52 * WEEK
BEGINS = datetime(2025, 1, 6, tzinfo=UTC)  # a Monday

TEMPERAMENTS = ("steady", "weekly", "bursty", "growing", "seasonal", "dying")
INCIDENTS = ("stolen key", "runaway loop", "price jump", "outage")
PER_YEAR = 6

_BY_HOUR = [0.35 + 0.65 * math.sin(math.pi * hour / 24) ** 2 * 1.6 for hour in range(24)]
_BY_WEEKDAY = [1.05, 1.1, 1.1, 1.05, 1.0, 0.65, 0.6]


@dataclass
class Incident:
    """Hours from ``first`` on, ``hours`` long, in which the account behaved in another way."""

    kind: str
    first: int
    hours: int


@dataclass
class AccountYear:
    """Tasks and US dollars of one queue by hour, the warm-up first, and the incidents planted in the year."""

    temperament: str
    seed: str
    volumes: list[float]
    money: list[float]
    incidents: list[Incident] = field(default_factory=list)


def account_year(temperament: str, seed: str, *, per_year: int = PER_YEAR) -> AccountYear:
    draw = random.Random(f"{temperament} {seed}")
    price = draw.uniform(0.5, 3.0) / 1000
    level = 10 ** draw.uniform(-0.3, 1.3)  # US dollars an hour
    shapes: dict[str, Callable[[random.Random, int], float]] = {
        "steady": _steady,
        "weekly": _weekly,
        "growing": _growing,
        "seasonal": _seasonal,
        "dying": _dying,
    }
    hours = WARM_UP + YEAR
    if temperament == "bursty":
        shape = _bursty(draw, hours)
    else:
        shape = [shapes[temperament](draw, hour) for hour in range(hours)]
    volumes = [float(round(level * one / price)) for one in shape]
    money = [volume * price * draw.uniform(0.985, 1.015) for volume in volumes]
    account = AccountYear(temperament, seed, volumes, money)
    _plant(account, draw, level, price, per_year)
    return account


def _noise(draw: random.Random, sigma: float) -> float:
    return math.exp(draw.gauss(-sigma * sigma / 2, sigma))


def _daily(hour: int) -> float:
    return _BY_HOUR[hour % 24] * _BY_WEEKDAY[hour // 24 % 7]


def _steady(draw: random.Random, hour: int) -> float:
    return _noise(draw, 0.15)


def _weekly(draw: random.Random, hour: int) -> float:
    return _daily(hour) * _noise(draw, 0.2)


def _growing(draw: random.Random, hour: int) -> float:
    return _daily(hour) * 0.3 * math.exp(2.0 * hour / YEAR) * _noise(draw, 0.2)


def _seasonal(draw: random.Random, hour: int) -> float:
    return _daily(hour) * (1 + 0.5 * math.sin(2 * math.pi * hour / YEAR)) * _noise(draw, 0.25)


def _dying(draw: random.Random, hour: int) -> float:
    return _daily(hour) * math.exp(-2.5 * hour / YEAR) * _noise(draw, 0.25)


def _bursty(draw: random.Random, hours: int) -> list[float]:
    """Jobs of one to six hours, about two a day, of very different sizes."""
    found = [0.0] * hours
    for hour in range(hours):
        if draw.random() < 1.8 / 24:
            size = _noise(draw, 0.7)
            for one in range(hour, min(hours, hour + draw.randint(1, 6))):
                found[one] += size * _noise(draw, 0.2)
    return found


def _plant(account: AccountYear, draw: random.Random, level: float, price: float, per_year: int) -> None:
    """Spread incidents over the year, at least five weeks apart, so that habits recover."""
    slot = YEAR // max(1, per_year)
    for number in range(per_year):
        kind = INCIDENTS[draw.randrange(len(INCIDENTS))]
        first = WARM_UP + number * slot + draw.randrange(slot // 4)
        usual = _usual(account, first)
        if kind == "stolen key":  # someone else spends beside the owner
            hours, extra = draw.randint(6, 48), usual * draw.uniform(4, 15)
            _change(account, first, hours, extra=extra, price=price)
        elif kind == "runaway loop":
            hours, factor = draw.randint(4, 24), draw.uniform(5, 12)
            extra = usual * factor
            _change(account, first, hours, extra=extra, price=price)
        elif kind == "price jump":
            hours, factor = 2 * WEEK, draw.uniform(1.2, 2.0)
            _change(account, first, hours, factor=factor)
        else:
            hours = draw.randint(6, 24)
            _change(account, first, hours, keeps=0)
        account.incidents.append(Incident(kind, first, hours))


def _usual(account: AccountYear, hour: int) -> float:
    """The average spend of an hour with spend in the week before."""
    spent = [money for money in account.money[hour - WEEK : hour] if money > 0]
    return sum(spent) / len(spent) if spent else 1.0


def _change(
    account: AccountYear,
    first: int,
    hours: int,
    *,
    keeps: float = 1,
    factor: float = 1,
    extra: float = 0,
    price: float = 1,
) -> None:
    """Keep a part of the tasks, change their price by a factor, and add an amount of US dollars at a price per task."""
    for hour in range(first, min(first + hours, len(account.money))):
        account.volumes[hour] = account.volumes[hour] * keeps + extra / price
        account.money[hour] = account.money[hour] * keeps * factor + extra
