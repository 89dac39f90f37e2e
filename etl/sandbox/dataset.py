"""Years of believable spending, every hour of it a pure function of a seed.

Nothing is generated ahead: a queue's day costs three hashes. Randomness is BLAKE2 over the seed and the thing's name, and
all arithmetic is on integers, so the books are the same in every process, on every machine and Python.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from functools import cached_property, lru_cache
from hashlib import blake2b
from typing import NamedTuple

QUEUE_NAMES = (
    # attested as values of `queue`
    "English ImageToText",
    "Russian ImageToText",
    "Recaptcha Proxy-on",
    "Recaptcha Proxyless",
    "FunCaptcha",
    "Funcaptcha Proxyless",
    "Square Net Task",
    "GeeTest Proxy-on",
    "GeeTest Proxyless",
    # seen as labels elsewhere
    "Recaptcha V3 s0.3",
    "Recaptcha V3 s0.7",
    "Recaptcha V3 s0.9",
    "hCaptcha Proxy-On",
    "hCaptcha Proxyless",
    "Turnstile Proxy-On",
    "Turnstile Proxyless",
)

HOUR = 3600
DAY = 24 * HOUR
CORRECTED_AFTER = (HOUR, DAY, 7 * DAY)
"""Seconds after an hour's end when a correction of it shows."""
CORRECTED_OF_256 = 8
SETTLED_AFTER = DAY + CORRECTED_AFTER[-1]
"""Seconds after a day's start from which nothing of that day changes."""
PRICE_STEP_DAYS = 120
PRICE_LOWEST, PRICE_HIGHEST = 5_000, 30_000  # of 0.0001 USD per 1000 tasks

Units = tuple[int, int]
"""Volume, and money in the dataset's smallest unit, ``10 ** -places`` USD."""


def _draw(*words: object) -> bytes:
    """64 bytes that depend on nothing but the words."""
    return blake2b("\x1f".join(map(str, words)).encode(), digest_size=64).digest()


def _number(*words: object) -> int:
    return int.from_bytes(_draw(*words)[:8])


def _epoch_day(day: date) -> int:
    return day.toordinal() - date(1970, 1, 1).toordinal()


def _seconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"naive time: {moment}")
    return int(moment.timestamp())


@dataclass(frozen=True, eq=False)  # identity is the cheap key of the caches below; no one compares datasets
class Dataset:
    """An account's spending. Hours are UTC, money is US dollars. Percentages and sizes are whole numbers.

    ``queues`` is a tuple of names or how many (the known names first, then "Custom Queue 17" and so on).
    ``weekday`` (from Monday) and ``hours`` shape the volume, in per cent.
    ``idle_hours``, ``idle_weeks``: per cent of hours of a queue, and of weeks of the whole account, without spend.
    ``idle``: whole-account pauses, first and last day inclusive.
    ``active_periods``: (days, at once): a queue spends for that many days at a stretch, exactly so many queues on any day.
    ``lives``: (queue, first day, last day), inclusive; a queue named here spends only then.
    ``turnover``: some of the other queues come after ``begins`` or go for good.
    ``places``: digits of money after the point, 0 to 9.
    ``unlisted``: per cent of the money that no listed app, and likewise no listed IP, accounts for.
    ``corrections``: about 3 % of closed hours change 1 h, 24 h or 7 days after their end.
    """

    seed: int = 1
    begins: date = date(2023, 1, 1)
    queues: int | tuple[str, ...] = 6
    tasks_per_hour: int = 400
    growth: int = 25  # per cent of the first year's volume, a year
    weekday: tuple[int, ...] = (104, 108, 110, 107, 102, 84, 85)
    hours: tuple[int, ...] = (
        *(52, 46, 42, 40, 42, 50, 64, 82, 100, 118, 130, 138),
        *(140, 142, 144, 140, 134, 128, 122, 116, 106, 94, 80, 64),
    )
    idle_hours: int = 20
    idle_weeks: int = 3
    idle: tuple[tuple[date, date], ...] = ()
    active_periods: tuple[int, int] | None = None
    lives: tuple[tuple[str, date, date], ...] = ()
    turnover: bool = True
    places: int = 6
    corrections: bool = False
    apps: tuple[int, ...] = (1011, 1022, 1033)
    ips: tuple[str, ...] = ("192.0.2.10", "192.0.2.20", "198.51.100.7")
    unlisted: int = 10

    @classmethod
    def busy(
        cls,
        seed: int = 1,
        begins: date = date(2023, 1, 1),
        queues: int | tuple[str, ...] = 6,
        *,
        corrections: bool = False,
    ) -> "Dataset":
        """Every queue spends in every hour from ``begins`` on."""
        return cls(
            seed=seed, begins=begins, queues=queues, idle_hours=0, idle_weeks=0, turnover=False, corrections=corrections
        )

    def __post_init__(self) -> None:
        strangers = {name for name, _, _ in self.lives} - set(self.names)
        if strangers:
            raise ValueError(f"lives of queues that do not exist: {sorted(strangers)}")
        if not 0 <= self.places <= 9:
            raise ValueError(f"money has 0 to 9 places, not {self.places}")

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every queue that ever spends, in the order of the history's list."""
        if isinstance(self.queues, tuple):
            return self.queues
        custom = (f"Custom Queue {number}" for number in range(len(QUEUE_NAMES) + 1, self.queues + 1))
        return (*QUEUE_NAMES[: self.queues], *custom)

    def hour(self, queue: str, hour_start: datetime) -> tuple[int, Decimal]:
        """Volume and money of one queue's hour as finally true."""
        return self._hour(hour_start, queue)

    def total(self, hour_start: datetime) -> tuple[int, Decimal]:
        """Volume and money of the account's hour as finally true: the sum over all queues."""
        return self._hour(hour_start, None)

    def _hour(self, hour_start: datetime, queue: str | None) -> tuple[int, Decimal]:
        day, second = divmod(_seconds(hour_start), DAY)
        return self.day(day, (day * DAY) + SETTLED_AFTER, queue)[second // HOUR]

    def day(
        self, day: int, as_of: int, queue: str | None = None, soft_id: int | None = None, ip: str | None = None
    ) -> tuple[tuple[int, Decimal], ...]:
        """The 24 hours of a day, as the books showed it at a Unix second; ``day`` counts from 1970-01-01.

        Without a queue the sum over all. ``soft_id`` and ``ip`` narrow it to their part. A stranger of any kind spent nothing.
        """
        return _day(self, day, min(as_of, day * DAY + SETTLED_AFTER), queue, soft_id, ip)

    def expected_rows(self, since: date, until: date, as_of: datetime) -> Iterator[tuple[str, datetime, int, Decimal]]:
        """``(queue, hour_start, volume, money)`` of every hour with volume or money; both days inclusive."""
        moment = _seconds(as_of)
        for day in range(_epoch_day(since), _epoch_day(until) + 1):
            for queue in self.names:
                for hour, (volume, money) in enumerate(self.day(day, moment, queue)):
                    if volume or money:
                        yield queue, datetime.fromtimestamp(day * DAY + hour * HOUR, UTC), volume, money

    @cached_property
    def _place(self) -> dict[str, int]:
        return {name: place for place, name in enumerate(self.names)}

    @cached_property
    def _life(self) -> dict[str, tuple[tuple[int, int], ...]]:
        """Spans of days, inclusive, in which a queue may spend."""
        told: dict[str, tuple[tuple[int, int], ...]] = {}
        for name, first, last in self.lives:
            told[name] = (*told.get(name, ()), (_epoch_day(first), _epoch_day(last)))
        return {name: told.get(name) or (self._seeded_life(name),) for name in self.names}

    def _seeded_life(self, queue: str) -> tuple[int, int]:
        first, last = _epoch_day(self.begins), _epoch_day(date.max)
        if not self.turnover or self._place[queue] == 0:  # the first stays, so that the account is never without any
            return first, last
        fate = _number(self.seed, "life", queue)
        if fate % 3 == 0:
            first += 30 + fate // 3 % 900
        if fate // 5 % 3 == 0:
            last = first + 200 + fate // 7 % 800
        return first, last

    def is_active(self, queue: str, day: int) -> bool:
        """Whether a queue may spend on a day (counted from 1970-01-01); single hours of it can still be idle."""
        if day < _epoch_day(self.begins) or not any(first <= day <= last for first, last in self._life.get(queue, ())):
            return False
        if any(_epoch_day(first) <= day <= _epoch_day(last) for first, last in self.idle):
            return False
        if self.idle_weeks and _number(self.seed, "week", (day + 3) // 7) % 100 < self.idle_weeks:
            return False
        if self.active_periods is None:
            return True
        # The queues stand evenly spaced on a circle that turns past a window: `at_once` of them are always inside it.
        days, at_once = self.active_periods
        return (day * at_once + self._place[queue] * days) % (days * len(self.names)) < days * at_once

    def price(self, queue: str, day: int) -> int:
        """0.0001 USD per 1000 tasks: a level of the queue's own, moved by up to 15 % at every step."""
        level = PRICE_LOWEST + _number(self.seed, "price", queue) % (PRICE_HIGHEST - PRICE_LOWEST)
        moved = level * (85 + _number(self.seed, "price", queue, day // PRICE_STEP_DAYS) % 31) // 100
        return max(PRICE_LOWEST, min(PRICE_HIGHEST, moved))


class _QueueDay(NamedTuple):
    """A queue's 24 hours: as first booked, as finally true, and seconds after the hour's end when that replaced this."""

    first: tuple[Units, ...]
    final: tuple[Units, ...]
    after: tuple[int, ...]


_NOTHING: Units = (0, 0)
_IDLE = _QueueDay((_NOTHING,) * 24, (_NOTHING,) * 24, (0,) * 24)


@lru_cache(maxsize=4096)
def _queue_day(dataset: Dataset, queue: str, day: int) -> _QueueDay:
    if not dataset.is_active(queue, day):
        return _IDLE
    final = tuple(_final(dataset, queue, day))
    if not dataset.corrections:
        return _QueueDay(final, final, (0,) * 24)
    dice = _draw(dataset.seed, "correction", queue, day)
    corrected = [dice[hour] < CORRECTED_OF_256 and final[hour] != _NOTHING for hour in range(24)]
    return _QueueDay(
        tuple(_uncorrected(units, dice[24 + hour]) if corrected[hour] else units for hour, units in enumerate(final)),
        final,
        tuple(CORRECTED_AFTER[dice[48 + hour % 16] % 3] if corrected[hour] else 0 for hour in range(24)),
    )


def _final(dataset: Dataset, queue: str, day: int) -> Iterator[Units]:
    size = 10 + _number(dataset.seed, "size", queue) % 291
    grown = 36_500 + dataset.growth * (day - _epoch_day(dataset.begins))
    pace = dataset.tasks_per_hour * size * grown * dataset.weekday[(day + 3) % 7]
    price = dataset.price(queue, day)
    dice, cents = _draw(dataset.seed, "volume", queue, day), _draw(dataset.seed, "money", queue, day)
    for hour in range(24):
        if dice[24 + hour] * 100 < dataset.idle_hours * 256:
            yield _NOTHING
            continue
        volume = max(1, pace * dataset.hours[hour] * (205 + dice[hour] * 2 // 5) // (100 * 36_500 * 100 * 100 * 256))
        noise = 980_000 + int.from_bytes(cents[2 * hour : 2 * hour + 2]) * 40_000 // 65_535
        yield volume, volume * price * noise * 10**dataset.places // 10**13


def _uncorrected(final: Units, dice: int) -> Units:
    """What stood there before: up to 8 % more or less, at least one task, never nothing."""
    volume, money = final
    change = max(1, volume * (1 + dice % 8) // 100)
    before = volume - change if dice & 8 and volume > change else volume + change
    return before, money * before // volume


def _as_of(hours: _QueueDay, day: int, as_of: int) -> Iterator[Units]:
    """A running hour has grown to its elapsed part; what it grows to is what is booked first."""
    for hour, (first, final, after) in enumerate(zip(*hours, strict=True)):
        elapsed = as_of - day * DAY - hour * HOUR
        if elapsed >= HOUR:
            yield final if elapsed - HOUR >= after else first
        elif elapsed > 0 and first[0]:
            volume = first[0] * elapsed // HOUR
            yield volume, first[1] * volume // first[0]
        else:
            yield _NOTHING


@lru_cache(maxsize=4096)
def _day(
    dataset: Dataset, day: int, as_of: int, queue: str | None, soft_id: int | None, ip: str | None
) -> tuple[tuple[int, Decimal], ...]:
    volumes, moneys = [0] * 24, [0] * 24
    dimensions = [
        _share(dataset, kind, members, member, day)
        for kind, members, member in (("app", dataset.apps, soft_id), ("ip", dataset.ips, ip))
        if member is not None
    ]
    for name in dataset.names if queue is None else (queue,):
        hours = _queue_day(dataset, name, day)
        if hours is _IDLE:
            continue
        for hour, (volume, money) in enumerate(_as_of(hours, day, as_of)):
            for share in dimensions:
                volume, money = _part(volume, share), _part(money, share)  # noqa: PLW2901 - narrowed cut by cut
            volumes[hour] += volume
            moneys[hour] += money
    return tuple(
        (volume, Decimal(money).scaleb(-dataset.places)) for volume, money in zip(volumes, moneys, strict=True)
    )


def _share(dataset: Dataset, kind: str, members: Iterable[object], member: object, day: int) -> tuple[int, int, int]:
    """The stretch ``[low, high)`` of ``whole`` that is a member's on a day: neighbours share a border, so parts sum exactly."""
    low = high = mark = 0
    for other in members:
        weight = 1 + _number(dataset.seed, kind, other, day) % 100
        if other == member:
            low, high = mark, mark + weight
        mark += weight
    listed = 100 - dataset.unlisted
    return low * listed, high * listed, max(1, mark) * 100


def _part(amount: int, share: tuple[int, int, int]) -> int:
    low, high, whole = share
    return amount * high // whole - amount * low // whole
