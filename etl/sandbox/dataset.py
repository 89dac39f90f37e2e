"""Synthetic spending of one account. Every hour is a pure function of a seed; nothing is generated ahead.

Randomness is BLAKE2 over the seed and a name. All arithmetic uses integers, so numbers do not depend on the machine.
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
    # seen only as labels
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
CORRECTION_DELAYS = (HOUR, DAY, 7 * DAY)
"""Seconds between the end of an hour and its correction."""
CORRECTIONS_PER_256_HOURS = 8
SETTLED_AFTER = DAY + CORRECTION_DELAYS[-1]
"""Seconds after the start of a day until its hours no longer change."""
PRICE_STEP_DAYS = 120
MIN_PRICE, MAX_PRICE = 5_000, 30_000  # in 0.0001 USD per 1000 tasks
GROWTH = 25
"""Percent of the first year's volume added per year."""
WEEKDAYS = (104, 108, 110, 107, 102, 84, 85)
"""Volume from Monday to Sunday, in percent of the average."""
HOURS = (
    *(52, 46, 42, 40, 42, 50, 64, 82, 100, 118, 130, 138),
    *(140, 142, 144, 140, 134, 128, 122, 116, 106, 94, 80, 64),
)
"""Volume from midnight on, in percent of the average."""

Units = tuple[int, int]
"""Volume, and money in the dataset's smallest unit, ``10 ** -places`` USD."""


def _hash_bytes(*parts: object) -> bytes:
    """Return 64 bytes that depend on the arguments only."""
    return blake2b("\x1f".join(map(str, parts)).encode(), digest_size=64).digest()


def _hash_int(*parts: object) -> int:
    return int.from_bytes(_hash_bytes(*parts)[:8])


def _epoch_day(day: date) -> int:
    return day.toordinal() - date(1970, 1, 1).toordinal()


def _epoch_seconds(time: datetime) -> int:
    if time.tzinfo is None:
        raise ValueError(f"naive time: {time}")
    return int(time.timestamp())


@dataclass(frozen=True, eq=False)  # hashed by identity: cheap keys for the caches below
class Dataset:
    """An account's spending. Hours are UTC, money is US dollars, percentages are integers.

    ``queues``: names, or how many (known names first, then "Custom Queue 17" and so on).
    ``idle_hours``, ``idle_weeks``: percent of a queue's hours, and of the account's weeks, without spend.
    ``idle``: pauses of the whole account, first and last day inclusive.
    ``active_periods``: (days, at_once): queues spend that many days in a row; on any day ``at_once`` of them do.
    ``lives``: (queue, first day, last day), inclusive; a queue named here spends on these days only.
    ``turnover``: some other queues start after ``begins`` or stop for good.
    ``places``: decimal places of money, 0 to 9.
    ``corrections``: about 3 % of closed hours change 1 h, 24 h or 7 days after their end.
    ``late_corrections``: (day, time): all amounts of a day are doubled from a time on, however old the day is.
    ``unlisted``: percent of the money that belongs to no listed app, and to no listed IP.
    """

    seed: int = 1
    begins: date = date(2023, 1, 1)
    queues: int | tuple[str, ...] = 6
    tasks_per_hour: int = 400
    idle_hours: int = 20
    idle_weeks: int = 3
    idle: tuple[tuple[date, date], ...] = ()
    active_periods: tuple[int, int] | None = None
    lives: tuple[tuple[str, date, date], ...] = ()
    turnover: bool = True
    places: int = 6
    corrections: bool = False
    late_corrections: tuple[tuple[date, datetime], ...] = ()
    apps: tuple[int, ...] = (1011, 1022, 1033)
    ips: tuple[str, ...] = ("192.0.2.10", "192.0.2.20", "198.51.100.7")
    unlisted: int = 10

    @classmethod
    def always_active(
        cls, begins: date = date(2023, 1, 1), queues: int | tuple[str, ...] = 6, *, corrections: bool = False
    ) -> "Dataset":
        """Return a dataset whose queues all spend in every hour from ``begins`` on."""
        return cls(1, begins, queues, idle_hours=0, idle_weeks=0, turnover=False, corrections=corrections)

    @cached_property
    def names(self) -> tuple[str, ...]:
        """Every queue that ever spends."""
        if isinstance(self.queues, tuple):
            return self.queues
        custom = (f"Custom Queue {number}" for number in range(len(QUEUE_NAMES) + 1, self.queues + 1))
        return (*QUEUE_NAMES[: self.queues], *custom)

    def hour(self, hour_start: datetime, queue: str | None = None) -> tuple[int, Decimal]:
        """Return the settled volume and money of an hour; without a queue, the account's total."""
        day, second = divmod(_epoch_seconds(hour_start), DAY)
        return self.day(day, day * DAY + SETTLED_AFTER, queue)[second // HOUR]

    def day(
        self, day: int, as_of: int, queue: str | None = None, soft_id: int | None = None, ip: str | None = None
    ) -> tuple[tuple[int, Decimal], ...]:
        """Return the 24 hours of a day (counted from 1970-01-01) as reported at the Unix second ``as_of``.

        Without a queue, the sum of all queues. ``soft_id`` and ``ip`` narrow it. Unknown members have no spend.
        """
        hours = _day(self, day, min(as_of, day * DAY + SETTLED_AFTER), queue, soft_id, ip)
        factor = 2 ** sum(at <= as_of and _epoch_day(changed) == day for changed, at in self._late_corrections)
        return hours if factor == 1 else tuple((factor * volume, factor * money) for volume, money in hours)

    def expected_rows(self, since: date, until: date, as_of: datetime) -> Iterator[tuple[str, datetime, int, Decimal]]:
        """Yield ``(queue, hour_start, volume, money)`` of every hour with spend; both days inclusive."""
        seconds = _epoch_seconds(as_of)
        for day in range(_epoch_day(max(since, self.begins)), _epoch_day(until) + 1):
            for queue in self.names:
                for hour, (volume, money) in enumerate(self.day(day, seconds, queue)):
                    if volume or money:
                        yield queue, datetime.fromtimestamp(day * DAY + hour * HOUR, UTC), volume, money

    @cached_property
    def _late_corrections(self) -> list[tuple[date, int]]:
        return [(day, _epoch_seconds(at)) for day, at in self.late_corrections]

    @cached_property
    def _lifetimes(self) -> dict[str, list[tuple[int, int]]]:
        """First and last days on which each queue may spend."""
        given: dict[str, list[tuple[int, int]]] = {}
        for name, first, last in self.lives:
            given.setdefault(name, []).append((_epoch_day(first), _epoch_day(last)))
        return {name: given.get(name) or [self._lifetime(name, index)] for index, name in enumerate(self.names)}

    def _lifetime(self, queue: str, index: int) -> tuple[int, int]:
        first, last = _epoch_day(self.begins), _epoch_day(date.max)
        if not self.turnover or index == 0:  # the first queue stays, so the account always has one
            return first, last
        fate = _hash_int(self.seed, "life", queue)
        if fate % 3 == 0:
            first += 30 + fate // 3 % 900
        if fate // 5 % 3 == 0:
            last = first + 200 + fate // 7 % 800
        return first, last

    def is_active(self, queue: str, day: int) -> bool:
        """Whether a queue may spend on a day (counted from 1970-01-01); single hours can still be idle."""
        if day < _epoch_day(self.begins) or not _is_within(day, self._lifetimes.get(queue, ())):
            return False
        if _is_within(day, ((_epoch_day(first), _epoch_day(last)) for first, last in self.idle)):
            return False
        if self.idle_weeks and _hash_int(self.seed, "week", (day + 3) // 7) % 100 < self.idle_weeks:
            return False
        if self.active_periods is None:
            return True
        # Queues are spaced evenly on a circle that rotates past a window; `at_once` of them are always inside it.
        days, at_once = self.active_periods
        return (day * at_once + self.names.index(queue) * days) % (days * len(self.names)) < days * at_once

    def price(self, queue: str, day: int) -> int:
        """Return 0.0001 USD per 1000 tasks: a base price per queue, changed by up to 15 % every PRICE_STEP_DAYS."""
        base = MIN_PRICE + _hash_int(self.seed, "price", queue) % (MAX_PRICE - MIN_PRICE)
        price = base * (85 + _hash_int(self.seed, "price", queue, day // PRICE_STEP_DAYS) % 31) // 100
        return max(MIN_PRICE, min(MAX_PRICE, price))


def _is_within(day: int, periods: Iterable[tuple[int, int]]) -> bool:
    return any(first <= day <= last for first, last in periods)


class _QueueDay(NamedTuple):
    """A queue's 24 hours as first reported, as settled, and the delay in seconds of each correction."""

    first: tuple[Units, ...]
    settled: tuple[Units, ...]
    delays: tuple[int, ...]


_NO_SPEND: Units = (0, 0)
_IDLE = _QueueDay((_NO_SPEND,) * 24, (_NO_SPEND,) * 24, (0,) * 24)


@lru_cache(maxsize=4096)
def _queue_day(dataset: Dataset, queue: str, day: int) -> _QueueDay:
    if not dataset.is_active(queue, day):
        return _IDLE
    settled = tuple(_settled_hours(dataset, queue, day))
    if not dataset.corrections:
        return _QueueDay(settled, settled, (0,) * 24)
    dice = _hash_bytes(dataset.seed, "correction", queue, day)
    first, delays = list(settled), [0] * 24
    for hour in range(24):
        if dice[hour] < CORRECTIONS_PER_256_HOURS and settled[hour] != _NO_SPEND:
            first[hour] = _uncorrected(settled[hour], dice[24 + hour])
            delays[hour] = CORRECTION_DELAYS[dice[48 + hour % 16] % 3]
    return _QueueDay(tuple(first), settled, tuple(delays))


def _settled_hours(dataset: Dataset, queue: str, day: int) -> Iterator[Units]:
    size = 10 + _hash_int(dataset.seed, "size", queue) % 291
    growth = 36_500 + GROWTH * (day - _epoch_day(dataset.begins))
    base = dataset.tasks_per_hour * size * growth * WEEKDAYS[(day + 3) % 7]
    price = dataset.price(queue, day)
    dice, cents = _hash_bytes(dataset.seed, "volume", queue, day), _hash_bytes(dataset.seed, "money", queue, day)
    for hour in range(24):
        if dice[24 + hour] * 100 < dataset.idle_hours * 256:
            yield _NO_SPEND
            continue
        volume = max(1, base * HOURS[hour] * (205 + dice[hour] * 2 // 5) // (100 * 36_500 * 100 * 100 * 256))
        noise = 980_000 + int.from_bytes(cents[2 * hour : 2 * hour + 2]) * 40_000 // 65_535
        yield volume, volume * price * noise * 10**dataset.places // 10**13


def _uncorrected(settled: Units, dice: int) -> Units:
    """Return the value before its correction: up to 8 % more or less, different by at least one task, never zero."""
    volume, money = settled
    change = max(1, volume * (1 + dice % 8) // 100)
    before = volume - change if dice & 8 and volume > change else volume + change
    return before, money * before // volume


def _reported_hours(hours: _QueueDay, day: int, as_of: int) -> Iterator[Units]:
    """Yield each hour as reported at ``as_of``; the running hour shows its elapsed part of the first value."""
    for hour, (first, settled, delay) in enumerate(zip(*hours, strict=True)):
        elapsed = as_of - day * DAY - hour * HOUR
        if elapsed >= HOUR:
            yield settled if elapsed - HOUR >= delay else first
        elif elapsed > 0 and first[0]:
            volume = first[0] * elapsed // HOUR
            yield volume, first[1] * volume // first[0]
        else:
            yield _NO_SPEND


@lru_cache(maxsize=4096)
def _day(
    dataset: Dataset, day: int, as_of: int, queue: str | None, soft_id: int | None, ip: str | None
) -> tuple[tuple[int, Decimal], ...]:
    volumes, moneys = [0] * 24, [0] * 24
    shares = [
        _share(dataset, kind, members, member, day)
        for kind, members, member in (("app", dataset.apps, soft_id), ("ip", dataset.ips, ip))
        if member is not None
    ]
    for name in dataset.names if queue is None else (queue,):
        hours = _queue_day(dataset, name, day)
        if hours is _IDLE:
            continue
        for hour, (volume, money) in enumerate(_reported_hours(hours, day, as_of)):
            for share in shares:
                volume, money = _part(volume, share), _part(money, share)  # noqa: PLW2901 - narrowed step by step
            volumes[hour] += volume
            moneys[hour] += money
    return tuple(
        (volume, Decimal(money).scaleb(-dataset.places)) for volume, money in zip(volumes, moneys, strict=True)
    )


def _share(dataset: Dataset, kind: str, members: Iterable[object], member: object, day: int) -> tuple[int, int, int]:
    """Return a member's part of a day as ``(low, high, whole)``. Neighbours share a bound, so parts sum exactly."""
    low = high = total = 0
    for other in members:
        part = 1 + _hash_int(dataset.seed, kind, other, day) % 100
        if other == member:
            low, high = total, total + part
        total += part
    listed = 100 - dataset.unlisted
    return low * listed, high * listed, max(1, total) * 100


def _part(amount: int, share: tuple[int, int, int]) -> int:
    low, high, whole = share
    return amount * high // whole - amount * low // whole
