"""Queues, apps and addresses: which are worth asking, which are likely on a day, which are believed. Pure.

What a name that cannot exist gives is the *lesson* of its cut. Where it is an error, a name that gives the same is set aside;
where it is the account's total, a name is believed once it has answered anything but a day's total.
"""

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from etl.records import (
    CUTS,
    TOTAL,
    ZERO,
    Belief,
    Cut,
    Effect,
    Filter,
    Lesson,
    Outcome,
    Reading,
    Spell,
    Unknown,
    Value,
    Verdict,
    app,
    ip,
    queue,
)

CATALOGUE = (
    "English ImageToText", "Russian ImageToText", "Recaptcha Proxyless", "Recaptcha Proxy-on", "FunCaptcha", "Funcaptcha Proxyless",
    "Square Net Task", "GeeTest Proxy-on", "GeeTest Proxyless", "Turnstile Proxyless", "Turnstile Proxy-On", "hCaptcha Proxyless",
    "hCaptcha Proxy-On", "Recaptcha V3 s0.3", "Recaptcha V3 s0.7", "Recaptcha V3 s0.9",
)  # fmt: skip
"""Names attested as ``queue`` values, then names seen only as labels (third-party recordings; no complete list exists)."""

NO_SUCH: Mapping[Cut, Filter] = MappingProxyType(
    {
        Cut.QUEUE: queue("no such queue (asked by anticaptcha-etl to learn what unknown names give)"),
        Cut.APP: app(str(2**31 - 1)),
        Cut.IP: ip("240.0.0.1"),
    }
)
"""One member of each cut that cannot exist; nothing is ever sent from an address of 240.0.0.0/4 (RFC 1112)."""

NEAR = 1
"""A name is likely on a day at most so many days from a spell of it."""

SPELL_GAP = 7
"""Days without spend that do not end a spell: a weekend or a holiday."""

FRESH = timedelta(minutes=10)
"""A name is measured against a total no older than this: an older one may have been corrected since."""

FAR = math.inf
"""How far a name is from a rest when it is not known what it ever spent."""


@dataclass(frozen=True, slots=True)
class Names:
    """What is known of names.

    ``order``: those the user listed, then the catalogue: the order of a hunt. ``worth``: by cut, those worth asking.
    ``spells``: when a name had spend. ``spent``: what it spent on the day last read of it. ``by_hand``: those that a person
    asks for now, though they were set aside or have ended; until they are refused once more.
    """

    order: tuple[Filter, ...] = ()
    worth: Mapping[Cut, Set[Filter]] = field(default_factory=dict)
    beliefs: Mapping[Filter, Belief] = field(default_factory=dict)
    lessons: Mapping[Cut, Lesson] = field(default_factory=dict)
    spells: Mapping[Filter, tuple[Spell, ...]] = field(default_factory=dict)
    spent: Mapping[Filter, Value] = field(default_factory=dict)
    by_hand: frozenset[Filter] = frozenset()

    def doubts(self, cut: Cut) -> bool:
        """Whether a good answer alone does not prove that a member of the cut exists."""
        return cut in self.lessons and self.lessons[cut].gives is Unknown.TOTALS

    def is_asked(self, filter: Filter) -> bool:
        """Whether the filter may be asked: neither set aside nor ended, or a person asks for it."""
        return not self.is_closed(filter) or filter in self.by_hand

    def is_closed(self, filter: Filter) -> bool:
        """Whether the filter was set aside or has ended."""
        return filter in self.beliefs and not self.beliefs[filter].is_asked


def with_worth(names: Names) -> Names:
    """The names with those worth asking: listed by the user or in the catalogue; and queues met before.

    Apps and addresses are asked only when they are listed: each costs a request a day, explained or not.
    """
    met = (filter for filter in (*names.beliefs, *names.spells) if filter.cut is Cut.QUEUE)
    known = [filter for filter in {*names.order, *met} if names.is_asked(filter)]
    return replace(names, worth={cut: frozenset(filter for filter in known if filter.cut is cut) for cut in CUTS})


def with_trust(beliefs: Mapping[Filter, Belief], trusted: Iterable[Filter]) -> dict[Filter, Belief]:
    """Beliefs with what the user vouches for; of what the service has ended, that does not help."""
    return {**beliefs, **{filter: Belief.BELIEVED for filter in trusted if beliefs.get(filter) is not Belief.ENDED}}


# ---------------------------------------------------------------- which to ask


def likely(names: Names, among: Set[Filter], day: date) -> list[Filter]:
    """Those of ``among`` that had spend on neighbouring days, in alphabetical order."""
    return sorted(filter for filter in among if filter in names.spells and _distance(names, filter, day) <= NEAR)


def by_likelihood(names: Names, among: Set[Filter], day: date, rests: Iterable[Value]) -> list[Filter]:
    """Names to hunt for, the likeliest first: by what the rest tells, by nearness, then the user's, then the catalogue's.

    A rest carries a clue. In an hour in which one unknown queue worked alone, its price per task is that queue's price, which
    seldom moves; and where one is missing, what is left of the day is about what it last did in a day.
    """
    rank = {filter: place for place, filter in reversed(list(enumerate(names.order)))}
    left = [rest for rest in rests if rest.volume > 0 and rest.money > 0]
    prices, volume = [rest.money / rest.volume for rest in left], sum(rest.volume for rest in left)

    def likelihood(filter: Filter) -> tuple[float, int, int, Filter]:
        last = names.spent.get(filter)
        off = _unlike(last, prices, volume) if last and left else FAR
        return off, _distance(names, filter, day), rank.get(filter, len(rank)), filter

    return sorted(among, key=likelihood)


def _unlike(last: Value, prices: Iterable[Decimal], volume: int) -> float:
    """How far a name's last day is from a rest. A price tells more than a volume, so it weighs as much as three."""
    price = last.money / last.volume
    of_price = min(abs(math.log(one / price)) for one in prices)
    return math.hypot(3 * of_price, math.log(volume / last.volume))


def _distance(names: Names, filter: Filter, day: date) -> int:
    """Days to the name's nearest spell; beyond all history when it has none."""
    return min((spell.distance(day) for spell in names.spells.get(filter, ())), default=date.max.toordinal())


# ---------------------------------------------------------------- what an answer teaches


def judged(names: Names, reading: Reading, verdict: Verdict) -> Names:
    """What a reading says of its filter. ``verdict`` is the day's without this reading.

    What was once believed is never set aside: its window has failed; or, where the refusal is the filter's own, it has ended.
    """
    filter = reading.window.filter
    if filter == TOTAL:
        return names
    belief = _belief(names, reading, verdict) or names.beliefs.get(filter)
    by_hand = names.by_hand - {filter} if reading.outcome is Outcome.REFUSED else names.by_hand
    if belief is None or (belief is names.beliefs.get(filter) and by_hand == names.by_hand):
        return names
    return with_worth(replace(names, beliefs={**names.beliefs, filter: belief}, by_hand=by_hand))


def _belief(names: Names, reading: Reading, verdict: Verdict) -> Belief | None:
    """What is to be thought of the reading's filter; None: nothing new."""
    cut = reading.window.filter.cut
    held = names.beliefs.get(reading.window.filter)
    is_booked = held is not None and held.is_booked
    if reading.effect is Effect.FILTER:
        return Belief.ENDED if is_booked else Belief.SET_ASIDE
    if is_booked:
        return Belief.BELIEVED if held is Belief.ENDED and reading.is_good else None
    if reading.outcome is Outcome.REFUSED:
        return Belief.SET_ASIDE if names.lessons.get(cut) == Lesson(Unknown.ERROR, reading.code) else None
    if not reading.is_good:
        return None
    return Belief.DOUBTED if names.doubts(cut) and not _is_not_the_total(reading, verdict) else Belief.BELIEVED


def _is_not_the_total(reading: Reading, verdict: Verdict) -> bool:
    """Whether a closed day's answer is less than its total, read just before, in an hour that both speak for, and nowhere more.

    What exceeds the total is no part of it. An answer without any record counts on the total's own UTC day alone: later the
    service may have forgotten the day.
    """
    asked_at = verdict.total_asked
    if not verdict.closed or TOTAL in verdict.failed or asked_at is None or reading.asked_at - asked_at > FRESH:
        return False
    if not reading.records and reading.asked_at.date() != asked_at.date():
        return False
    said = {record.hour_start: record.value for record in reading.records}
    pairs = [(said.get(hour, ZERO), verdict.hours[hour]) for hour in _spoken(reading, verdict)]
    is_part = all(part.volume <= whole.volume and part.money <= whole.money for part, whole in pairs)
    return is_part and any(part != whole for part, whole in pairs)


def _spoken(reading: Reading, verdict: Verdict) -> list[datetime]:
    """Hours that the reading and the total both speak for."""
    if not reading.records:
        return [hour for hour in verdict.hours if hour not in verdict.out_of_reach]
    first, last = reading.records[0].hour_start, reading.records[-1].hour_start
    return [hour for hour in verdict.hours if first <= hour <= last]


def learned(names: Names, reading: Reading, verdict: Verdict) -> Names:
    """What one day teaches of the others: where spend was seen, and at what price."""
    filter, day = reading.window.filter, reading.window.day
    if filter not in verdict.active or names.beliefs.get(filter) is not Belief.BELIEVED:
        return names
    spent = Value(
        sum(record.volume for record in reading.records), sum((record.money for record in reading.records), Decimal(0))
    )
    return replace(
        names,
        spells={**names.spells, filter: with_day(names.spells.get(filter, ()), day)},
        spent={**names.spent, filter: spent} if tells_price(spent) else names.spent,
    )


def tells_price(spent: Value) -> bool:
    """Whether there is a price: a refund can outweigh what was spent."""
    return spent.volume > 0 and spent.money > 0


def with_day(spells: tuple[Spell, ...], day: date) -> tuple[Spell, ...]:
    """Spells with one more day of spend in them: the nearest one grows, if it is near enough."""
    near = [spell for spell in spells if spell.distance(day) <= SPELL_GAP]
    others = tuple(spell for spell in spells if spell not in near)
    merged = Spell(min([day, *(spell.first for spell in near)]), max([day, *(spell.last for spell in near)]))
    return tuple(sorted((*others, merged)))


def lesson(reading: Reading, verdict: Verdict) -> Lesson | None:
    """What the answer to a name that cannot exist teaches; None: nothing, for this moment.

    Zeros are a lesson only where the total has tasks: money alone may be a refund, which a total can show and lose again.
    """
    if reading.is_good and any(record.value != ZERO for record in reading.records):
        return Lesson(Unknown.TOTALS)
    if reading.is_good and any(verdict.hours[hour].volume > 0 for hour in _spoken(reading, verdict)):
        return Lesson(Unknown.ZEROS)
    if reading.outcome is Outcome.REFUSED and reading.effect in (Effect.WINDOW, Effect.FILTER):
        return Lesson(Unknown.ERROR, reading.code)
    return None
