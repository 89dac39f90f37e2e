"""The service's own spending data: what one account spent, and how its numbers come late, shrink, alternate and vanish.

Every hour is a pure function of a seed and of the second it is looked at.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Literal, NamedTuple

HOUR = 3600
DAY = 24 * HOUR
EPOCH = date(1970, 1, 1).toordinal()
PLACES = 6

Change = Literal["late", "shrink", "flap", "vanish", "rise"]
CHANGES: tuple[Change, ...] = ("late", "shrink", "flap", "vanish", "rise")

Hours = tuple[tuple[int, Decimal], ...]
_ZERO = (0, Decimal(0))
NOTHING: Hours = (_ZERO,) * 24


class Queue(NamedTuple):
    """A queue and the first and last day on which it spends."""

    name: str
    first: date
    last: date


class _DayChange(NamedTuple):
    """From ``starts`` until ``ends`` (Unix seconds), the day's numbers are not the usual ones."""

    kind: Change
    starts: float
    ends: float


@dataclass
class Spending:
    """``unsteady``: percent of the days whose numbers change; ``settles``: hours after the day's end when the last change
    ends. Has what the sandbox needs of a data set."""

    seed: int
    queues: tuple[Queue, ...]
    apps: tuple[int, ...] = ()
    ips: tuple[str, ...] = ()
    unsteady: int = 30
    settles: float = 48
    idle_days: int = 5
    kinds: tuple[Change, ...] = CHANGES
    places: int = PLACES
    _days: dict[tuple[int, int, str], tuple[tuple[int, int], ...]] = field(default_factory=dict, repr=False)
    _cached: dict[tuple[object, ...], Hours] = field(default_factory=dict, repr=False)
    _changes: dict[int, tuple[_DayChange, ...]] = field(default_factory=dict, repr=False)

    @property
    def begins(self) -> date:
        return min(queue.first for queue in self.queues)

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(queue.name for queue in self.queues)

    def day(
        self, day: int, as_of: int, queue: str | None = None, soft_id: int | None = None, ip: str | None = None
    ) -> Hours:
        """The 24 hours of a day (counted from 1970-01-01) as the service tells them at the Unix second ``as_of``."""
        key = day, as_of, queue, soft_id, ip
        cached = self._cached.get(key)
        if cached is None:
            if len(self._cached) > 200:
                self._cached.clear()
            cached = self._cached[key] = self._day(day, as_of, queue, soft_id, ip)
        return cached

    def _day(self, day: int, as_of: int, queue: str | None, soft_id: int | None, ip: str | None) -> Hours:
        volumes, moneys = [0] * 24, [0] * 24
        version = self._version(day, as_of)
        date_of_day = date.fromordinal(EPOCH + day)
        for one in self.queues:
            if (queue is None or one.name == queue) and one.first <= date_of_day <= one.last:
                for hour, (volume, money) in enumerate(self._queue_day(day, version, one.name)):
                    volumes[hour] += volume
                    moneys[hour] += money
        for known, member in ((self.apps, soft_id), (self.ips, ip)):
            if member is not None:
                parts, at = len(known) + 1, known.index(member) if member in known else None
                volumes = [0 if at is None else _part(volume, at, parts) for volume in volumes]
                moneys = [0 if at is None else _part(money, at, parts) for money in moneys]
        return tuple(self._reported(day, as_of, volumes, moneys))

    def expected_rows(self, since: date, until: date, as_of: datetime) -> Iterator[tuple[str, datetime, int, Decimal]]:
        """Every hour of every queue with spend; both days inclusive."""
        seconds = int(as_of.timestamp())
        for number in range(since.toordinal() - EPOCH, until.toordinal() - EPOCH + 1):
            start = datetime.fromtimestamp(number * DAY, UTC)
            for name in self.names:
                for hour, (volume, money) in enumerate(self.day(number, seconds, name)):
                    if volume or money:
                        yield name, start + timedelta(hours=hour), volume, money

    def settled_at(self, day: int) -> float:
        """The second from which a day's numbers no longer change."""
        return max([(day + 1) * DAY, *(change.ends for change in self.changes(day))])

    def changes(self, day: int) -> tuple[_DayChange, ...]:
        found = self._changes.get(day)
        if found is None:
            found = self._changes[day] = tuple(self._draw_changes(day))
        return found

    def _draw_changes(self, day: int) -> Iterator[_DayChange]:
        draw = random.Random(self.seed * 1_000_003 + day)
        if draw.randrange(100) >= self.unsteady:
            return
        end = (day + 1) * DAY
        for _ in range(draw.choice((1, 1, 2))):
            kind = draw.choice(self.kinds)
            until = end + draw.random() * self.settles * HOUR
            if kind == "late":
                yield _DayChange(kind, 0, until)
            elif kind == "flap":
                step, at = 5 * HOUR, float(end - 6 * HOUR)
                while at + step < until:
                    yield _DayChange(kind, at, at + step)
                    at += 2 * step
            else:
                yield _DayChange(kind, end - draw.random() * DAY / 2, until)

    def _version(self, day: int, as_of: int) -> int:
        """A number whose bits say which changes apply."""
        return sum(
            1 << CHANGES.index(kind)
            for kind in {change.kind for change in self.changes(day) if change.starts <= as_of < change.ends}
        )

    def _queue_day(self, day: int, version: int, queue: str) -> tuple[tuple[int, int], ...]:
        key = day, version, queue
        found = self._days.get(key)
        if found is None:
            if len(self._days) > 2_000:
                self._days.clear()
            found = self._days[key] = tuple(self._draw_hours(day, version, queue))
        return found

    def _draw_hours(self, day: int, version: int, queue: str) -> Iterator[tuple[int, int]]:
        draw = random.Random(f"{self.seed} {day} {queue}")
        idle = random.Random(self.seed * 7 + day).randrange(100) < self.idle_days
        price = 800 + 37 * (sum(queue.encode()) % 61)  # millionths of a dollar per task
        active = draw.getrandbits(24) & draw.getrandbits(24)
        kinds = {kind for bit, kind in enumerate(CHANGES) if version >> bit & 1}
        changed = draw.getrandbits(24)
        for hour in range(24):
            volume = 0 if idle or not active >> hour & 1 else 1 + draw.randrange(90)
            money = volume * price + (draw.randrange(price) if volume else 0)
            if "vanish" in kinds or ("late" in kinds and hour >= 12):
                volume = money = 0
            elif changed >> hour & 1 and volume:
                factor = 2 * ("flap" in kinds) - (0 if "shrink" not in kinds else 1) + ("rise" in kinds)
                if factor:
                    volume, money = (
                        (volume + 3, money + price * 3) if factor > 0 else (volume - 1, money * (volume - 1) // volume)
                    )
            yield volume, money

    @staticmethod
    def _reported(day: int, as_of: int, volumes: list[int], moneys: list[int]) -> Iterator[tuple[int, Decimal]]:
        for hour, (volume, money) in enumerate(zip(volumes, moneys, strict=True)):
            elapsed = as_of - day * DAY - hour * HOUR
            if not volume or elapsed <= 0:
                yield _ZERO
            elif elapsed >= HOUR:
                yield volume, Decimal(money).scaleb(-PLACES)
            else:
                begun = volume * elapsed // HOUR
                yield begun, Decimal(money * begun // volume).scaleb(-PLACES)


def _part(amount: int, at: int, parts: int) -> int:
    """What the member ``at`` has of an amount; the last part belongs to none that is known."""
    return amount * (at + 1) // parts - amount * at // parts
