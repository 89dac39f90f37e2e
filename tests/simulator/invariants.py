"""What must be true after every night. It knows the service data and every response, and shares no code with the planner,
the parser or ``reconcile``."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta

from etl.load.stored import StoredSnapshot
from etl.models import (
    DAY,
    HOUR,
    MAX_CLOCK_SKEW,
    SPLIT_DIMENSIONS,
    TOTAL,
    ZERO_MEASURES,
    Dimension,
    Fact,
    Measures,
    MemberStatus,
    Outcome,
    SeriesKey,
    Window,
    day_start,
)
from etl.sandbox.behaviour import Behaviour
from tests.simulator.nights import Night
from tests.simulator.service import Exchange
from tests.simulator.spending import DAY as DAY_SECONDS
from tests.simulator.spending import Spending
from tests.simulator.stores import View

ReceivedKey = tuple[SeriesKey, datetime, datetime]
"""A response: its series, the start of its window, the time of its request as the program counts it."""

FactKey = tuple[SeriesKey, datetime]


class BrokenError(AssertionError):
    """An invariant does not hold. The first words name it."""


def require(condition: object, name: str, message: str) -> None:
    if not condition:
        raise BrokenError(f"{name}: {message}")


@dataclass
class Ledger:
    """What the simulator remembers of a life: the responses, and what was stored after the last night.

    ``uncommitted`` are responses that the journal or the warehouse must have; ``wrong_days`` are days with a response
    whose numbers were wrong.
    """

    spending: Spending
    received: dict[ReceivedKey, list[Exchange | None]] = field(default_factory=dict)
    uncommitted: Counter[ReceivedKey] = field(default_factory=Counter)
    droppable: set[ReceivedKey] = field(default_factory=set)
    stored: dict[date, dict[FactKey, Measures]] = field(default_factory=dict)
    final: set[date] = field(default_factory=set)
    snapshots: int = 0
    revisions: int = 0
    wrong_days: set[date] = field(default_factory=set)

    def copied(self) -> "Ledger":
        return Ledger(
            self.spending,
            {key: [*found] for key, found in self.received.items()},
            Counter(self.uncommitted),
            {*self.droppable},
            dict(self.stored),
            {*self.final},
            self.snapshots,
            self.revisions,
            {*self.wrong_days},
        )


def has_own_hours(key: ReceivedKey, exchange: Exchange, grid_seconds: int) -> bool:
    """Whether a response has records for its own window.

    If idle hours are missing, the program may take hours that begin after the full hour for ones that begin before it.
    """
    other = grid_seconds - math.copysign(HOUR.seconds, grid_seconds) if grid_seconds else 0
    for shift in (timedelta(seconds=grid_seconds), timedelta(seconds=other)):
        starts, ends = key[1] + shift, day_start(key[1].date()) + DAY + shift
        if not any(starts <= hour < ends for hour in exchange.hours):
            return False
    return True


def key_of(window: Window, requested_at: datetime) -> ReceivedKey:
    return window.series, window.start, requested_at


class Checks:
    """The invariants of one night, on what is stored after it."""

    def __init__(
        self, ledger: Ledger, view: View, night: Night, behaviour: Behaviour, left: Counter[ReceivedKey]
    ) -> None:
        """``left`` are the responses in the journal."""
        self.ledger, self.view, self.night, self.behaviour, self.left = ledger, view, night, behaviour, left
        self.by_day: dict[date, list[StoredSnapshot]] = {}
        for one in view.snapshots:
            self.by_day.setdefault(one.window.day, []).append(one)
        self.exchange_of = {one.number: self._exchange_of(one) for one in view.snapshots}
        self.by_number = {one.number: one for one in view.snapshots}

    def _exchange_of(self, one: StoredSnapshot) -> Exchange | None:
        """Requests of a window in the same second can have the same time, if ours is too far ahead of the server's."""
        key = key_of(one.window, one.requested_at)
        found = self.ledger.received.get(key, [None])
        if len(found) == 1:
            return found[0]
        of_key = [
            other.number for other in self.by_day[one.window.day] if key_of(other.window, other.requested_at) == key
        ]
        return found[min(of_key.index(one.number), len(found) - 1)]

    def run(self) -> None:
        require(self.view.doubled == 0, "stored once", f"{self.view.doubled} rows are stored twice")
        self._snapshots()
        for day in sorted(self.by_day):
            facts = {(one.series, one.hour_start): one for one in self.view.facts.get(day, ())}
            self._totals(day, facts)
            self._sums(day, facts)
            self._members(day, facts)
            if self.view.statuses.get(day) == "final":
                self._final(day, facts)
            self._revisions(day, facts)
        self._remember()

    # -- responses

    def _snapshots(self) -> None:
        """Every response is one snapshot, and every snapshot one response."""
        ledger = self.ledger
        for one in self.view.snapshots:
            if one.number <= ledger.snapshots:
                continue
            key = key_of(one.window, one.requested_at)
            require(key in ledger.received, "snapshots are responses", f"no response was received for {key}")
            require(ledger.uncommitted[key] > 0, "responses are stored once", f"{key} is stored twice")
            ledger.uncommitted[key] -= 1
        left = +ledger.uncommitted - self.left
        missing = [key for key in left if key not in ledger.droppable]
        require(not missing, "nothing is lost", f"{len(missing)} responses are in no snapshot: {_sample(missing)}")
        ledger.uncommitted = +ledger.uncommitted & self.left
        ledger.droppable &= self.left.keys()

    # -- values

    def _own_hours(self, day: date) -> list[datetime]:
        first = day_start(day) + timedelta(seconds=self.view.hour_offset)
        return [first + number * HOUR for number in range(24)]

    def _totals(self, day: date, facts: dict[FactKey, Fact]) -> None:
        """Each hour's total is the last returned one."""
        possible: dict[datetime, set[Measures]] = {}
        for one in _in_order(self.by_day[day], TOTAL):
            exchange = self.exchange_of[one.number]
            if one.outcome in (Outcome.SUCCESS, Outcome.PARTIAL) and exchange:
                self._add_possible(day, one, exchange, possible)
        stored = {hour: _value(fact) for (series, hour), fact in facts.items() if series == TOTAL}
        for hour, values in possible.items():
            require(hour in stored or ZERO_MEASURES in values, "totals are answered", f"the total of {hour} is missing")
        for hour, value in stored.items():
            values = possible.get(hour, {ZERO_MEASURES})
            require(value in values, "totals are answered", f"the total of {hour} is {value}, answered was {values}")

    def _add_possible(
        self, day: date, one: StoredSnapshot, exchange: Exchange, possible: dict[datetime, set[Measures]]
    ) -> None:
        own = [hour for hour in self._own_hours(day) if hour >= one.window.start + timedelta(seconds=-HOUR.seconds + 1)]
        given = [hour for hour in own if hour in exchange.hours and hour <= one.requested_at]
        is_damaged = exchange.fault in ("nan", "negative_volume", "negative")
        for hour in own:
            if hour in given:
                value = exchange.hours[hour]
                is_certain = hour >= one.window.start and not is_damaged
                possible[hour] = {value} if is_certain else possible.get(hour, set()) | {value}
            elif given and given[0] < hour < given[-1] and not is_damaged:
                possible[hour] = {ZERO_MEASURES}
            else:
                possible[hour] = possible.get(hour, set()) | {ZERO_MEASURES}

    def _sums(self, day: date, facts: dict[FactKey, Fact]) -> None:
        """In every hour, the members and the unattributed amount of each dimension add up to the total."""
        totals = {hour: _value(fact) for (series, hour), fact in facts.items() if series == TOTAL}
        for dimension in SPLIT_DIMENSIONS:
            sums: dict[datetime, Measures] = {}
            for (series, hour), fact in facts.items():
                if series.dimension is dimension:
                    volume, money = sums.get(hour, ZERO_MEASURES)
                    sums[hour] = Measures(volume + fact.volume, money + fact.money)
            require(sums.keys() <= totals.keys(), "members have a total", f"{day}: {dimension} without a total")
            for hour, total in totals.items() if sums or dimension is Dimension.QUEUE else ():
                found = sums.get(hour, ZERO_MEASURES)
                require(found == total, "members add up", f"{dimension} of {hour} adds up to {found}, not {total}")

    def _members(self, day: date, facts: dict[FactKey, Fact]) -> None:
        """Members with facts exist, count, and have what was answered for them."""
        for (series, hour), fact in facts.items():
            if series == TOTAL or series.is_unattributed:
                continue
            status = self.view.members.get(series)
            is_unverified = series.dimension in self.view.needs_verification and status in (
                None,
                MemberStatus.UNVERIFIED,
            )
            counts = status is not MemberStatus.EXCLUDED and not is_unverified
            require(counts, "members with money count", f"{series} is {status} and has money in {hour}")
            exists = series.member in _existing(self.ledger.spending) or self._names_are_uncertain(series)
            require(
                exists or day in self.ledger.wrong_days,
                "members exist",
                f"{series} does not exist, has money in {hour}",
            )
            exchange = self._exchange(fact.snapshot)
            returned = exchange.hours.get(hour) if exchange else None
            require(
                returned == _value(fact) or (returned is None and fact.is_delete),
                "members are answered",
                f"{series} has {_value(fact)} in {hour} of snapshot {fact.snapshot}, returned was {returned}",
            )

    def _exchange(self, number: int) -> Exchange | None:
        return self.exchange_of.get(number)

    # -- final days

    def _final(self, day: date, facts: dict[FactKey, Fact]) -> None:
        """A final day was read after its lookback, and has what the service had then."""
        totals = _in_order(self.by_day[day], TOTAL)
        whole = [one for one in totals if one.outcome is Outcome.SUCCESS and not one.window.is_partial_day]
        require(whole, "final days were read", f"{day} is final and its total was never read")
        if day not in self.ledger.final:
            self._late_enough(day, whole[-1], facts)
        last = whole[-1]
        exchange = self.exchange_of[last.number]
        if exchange is None or exchange.is_wrong or day in self.ledger.wrong_days:
            return
        later = {hour for one in totals[totals.index(last) + 1 :] for hour in self._hours_of(one)}
        for hour in self._own_hours(day):
            if hour in exchange.hours and hour not in later:
                fact, expected = facts.get((TOTAL, hour)), self._booked(hour, exchange.as_of)
                stored = _value(fact) if fact else ZERO_MEASURES
                require(
                    stored == expected,
                    "final days are exact",
                    f"the total of {hour} is {stored}, in the data {expected}",
                )

    def _hours_of(self, one: StoredSnapshot) -> Iterable[datetime]:
        exchange = self.exchange_of[one.number]
        return exchange.hours if exchange else ()

    def _late_enough(self, day: date, last: StoredSnapshot, facts: dict[FactKey, Fact]) -> None:
        due = day_start(day) + DAY * (1 + self.night.lookback)
        require(last.requested_at >= due, "final days were read late", f"{day}: total read at {last.requested_at}")
        exchange = self.exchange_of[last.number]
        is_true = exchange is None or exchange.as_of >= due - MAX_CLOCK_SKEW - timedelta(
            seconds=abs(self.night.date_skew)
        )
        require(is_true, "final days were read late", f"{day}: total answered at {exchange and exchange.as_of}")
        spent = {series for (series, _), fact in facts.items() if series.member and not fact.is_delete}
        for series in spent:
            status = self.view.members.get(series)
            reads = [
                one
                for one in _in_order(self.by_day[day], series)
                if one.outcome is Outcome.SUCCESS and not one.window.is_partial_day
            ]
            is_late = bool(reads) and reads[-1].requested_at >= due
            require(is_late or status is MemberStatus.RETIRED, "final days were read late", f"{day}: {series} was not")

    def _booked(self, hour: datetime, as_of: datetime, series: SeriesKey = TOTAL) -> Measures:
        grid = self.behaviour.grid_seconds
        day, second = divmod(int(hour.timestamp()) - grid, DAY_SECONDS)
        queue = series.member if series.dimension is Dimension.QUEUE else None
        volume, money = self.ledger.spending.day(day, int(as_of.timestamp()) - grid, queue)[second // 3600]
        return Measures(volume, money)

    # -- revisions

    def _revisions(self, day: date, facts: dict[FactKey, Fact]) -> None:
        """Every change of a stored value has its revisions, from the old value to the new one."""
        before, after = self.ledger.stored.get(day), {key: _value(fact) for key, fact in facts.items()}
        self.ledger.stored[day] = after
        if before is None:
            return
        chains: dict[FactKey, list[tuple[Measures, Measures]]] = {}
        for one in self.view.revisions:
            if one.day == day:
                revision = one.revision
                chains.setdefault((revision.series, revision.hour_start), []).append((revision.before, revision.after))
        had = {series for series, _ in before}
        for key in {*before, *after}:
            series, hour = key
            old, new = before.get(key, ZERO_MEASURES), after.get(key, ZERO_MEASURES)
            chain = chains.get(key, [])
            if old != new and (key in before or (series in had and series != TOTAL)) and key in before:
                require(chain, "changes leave revisions", f"{series} of {hour} was {old}, is {new}, without a revision")
            if series == TOTAL and key in before:
                self._follow(key, old, new, chain)

    @staticmethod
    def _follow(key: FactKey, old: Measures, new: Measures, chain: Sequence[tuple[Measures, Measures]]) -> None:
        value = old
        for before, after in chain:
            require(before == value, "revisions are a chain", f"{key} was {value}, its revision says {before}")
            value = after
        require(value == new, "revisions are a chain", f"{key} is {new}, its revisions end with {value}")

    def _remember(self) -> None:
        ledger = self.ledger
        ledger.final = {day for day, status in self.view.statuses.items() if status == "final"}
        ledger.snapshots = max([ledger.snapshots, *self.by_number])
        ledger.revisions += len(self.view.revisions)

    # -- the end of a life

    def alive(self, today: date) -> None:
        """After undisturbed nights every day is final or recent, and exact."""
        days = sorted(self.view.statuses)
        require(days and days[-1] >= today, "everything ends well", "nothing is stored")
        grid = timedelta(days=1) if self.behaviour.grid_seconds else timedelta(0)
        for day in days:
            status = self.view.statuses[day]
            is_old = day < today - DAY * self.night.lookback - grid
            require(
                status == "final" if is_old else status in ("open", "final"),
                "everything ends well",
                f"{day} is {status}",
            )
        for day in days[-20:]:
            if self.by_day.get(day) and day not in self.ledger.wrong_days:
                self._is_exact(day)

    def _names_are_uncertain(self, series: SeriesKey) -> bool:
        """If unknown names return totals, and a closed day's total falls between two requests, a name that does not exist
        seems to return less than the total."""
        return series.dimension in self.view.needs_verification and self.ledger.spending.unsteady > 0

    def _is_exact(self, day: date) -> None:
        facts = {(one.series, one.hour_start): one for one in self.view.facts.get(day, ())}
        whole = [one for one in _in_order(self.by_day[day], TOTAL) if one.outcome is Outcome.SUCCESS]
        exchange = self.exchange_of[whole[-1].number] if whole else None
        if exchange is None or whole[-1].window.is_partial_day:
            return
        hours = [*self._own_hours(day)]
        if self.behaviour.buckets == 23:  # the last hour is requested once the day is closed
            hours = hours[:-1] if self.view.statuses[day] == "open" else hours
        for hour in hours:
            if hour + HOUR > exchange.as_of:
                continue
            fact, expected = facts.get((TOTAL, hour)), self._booked(hour, exchange.as_of)
            found = _value(fact) if fact else ZERO_MEASURES
            require(
                found == expected, "everything ends exact", f"the total of {hour} is {found}, in the data {expected}"
            )


def _existing(spending: Spending) -> set[str | None]:
    return {*spending.names, *map(str, spending.apps), *spending.ips}


def _value(fact: Fact) -> Measures:
    return Measures(fact.volume, fact.money)


def _in_order(snapshots: Iterable[StoredSnapshot], series: SeriesKey) -> list[StoredSnapshot]:
    return sorted(
        (one for one in snapshots if one.window.series == series), key=lambda one: (one.requested_at, one.number)
    )


def _sample(keys: Iterable[ReceivedKey]) -> str:
    return "; ".join(
        f"{series} {start:%Y-%m-%d %H:%M}, requested {at}" for series, start, at in sorted(keys, key=str)[:3]
    )
