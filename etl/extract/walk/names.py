"""Queues, apps and addresses: which are worth asking, which are likely on a day, which are believed. Pure.

What a name that cannot exist gives is the *lesson* of its cut. Where it is an error, a name that gives the same is set aside;
where it is the account's total, a name is believed once it has answered anything but a day's total.
"""

from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
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

FAR = Decimal(10**9)
"""How far a name is from the clue when no price of it is known."""


@dataclass(frozen=True, slots=True)
class Names:
    """What is known of names.

    ``order``: those the user listed, then the catalogue: the order of a hunt. ``worth``: by cut, those worth asking.
    ``spells``: when a name had spend. ``prices``: what one of its tasks cost when last read, in dollars.
    """

    order: tuple[Filter, ...] = ()
    worth: Mapping[Cut, Set[Filter]] = field(default_factory=dict)
    beliefs: Mapping[Filter, Belief] = field(default_factory=dict)
    lessons: Mapping[Cut, Lesson] = field(default_factory=dict)
    spells: Mapping[Filter, tuple[Spell, ...]] = field(default_factory=dict)
    prices: Mapping[Filter, Decimal] = field(default_factory=dict)

    def doubts(self, cut: Cut) -> bool:
        """Whether a good answer alone does not prove that a member of the cut exists."""
        return cut in self.lessons and self.lessons[cut].gives is Unknown.TOTALS

    def is_asked(self, filter: Filter) -> bool:
        """Whether the filter may be asked: neither set aside nor ended."""
        return filter not in self.beliefs or self.beliefs[filter].is_asked


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
    """Names to hunt for, the likeliest first: by the price of the rest, by nearness, then the user's, then the catalogue's.

    A rest carries a clue. In an hour in which one unknown queue worked alone, its price per task is that queue's price.
    """
    rank = {filter: place for place, filter in reversed(list(enumerate(names.order)))}
    clues = [rest.money / rest.volume for rest in rests if rest.volume > 0]

    def likelihood(filter: Filter) -> tuple[Decimal, int, int, Filter]:
        price = names.prices.get(filter)
        off = min((abs(clue - price) / price for clue in clues), default=FAR) if price else FAR
        return off, _distance(names, filter, day), rank.get(filter, len(rank)), filter

    return sorted(among, key=likelihood)


def _distance(names: Names, filter: Filter, day: date) -> int:
    """Days to the name's nearest spell; beyond all history when it has none."""
    return min((spell.distance(day) for spell in names.spells.get(filter, ())), default=date.max.toordinal())


# ---------------------------------------------------------------- what an answer teaches


def judged(names: Names, reading: Reading, verdict: Verdict) -> Names:
    """What a reading says of its filter. ``verdict`` is the day's without this reading.

    What was once believed is never set aside: its window has failed; or, where the refusal is the filter's own, it has ended.
    """
    filter = reading.window.filter
    held = names.beliefs.get(filter)
    belief = _belief(names, reading, verdict)
    if filter == TOTAL or belief is None or belief is held:
        return names
    return with_worth(replace(names, beliefs={**names.beliefs, filter: belief}))


def _belief(names: Names, reading: Reading, verdict: Verdict) -> Belief | None:
    """What is to be thought of the reading's filter; None: nothing new."""
    cut = reading.window.filter.cut
    held = names.beliefs.get(reading.window.filter)
    is_booked = held is not None and held.is_booked
    if reading.effect is Effect.FILTER:
        return Belief.ENDED if is_booked else Belief.SET_ASIDE
    if is_booked:
        return None
    if reading.outcome is Outcome.REFUSED:
        return Belief.SET_ASIDE if names.lessons.get(cut) == Lesson(Unknown.ERROR, reading.code) else None
    if not reading.is_good:
        return None
    return Belief.DOUBTED if names.doubts(cut) and not _is_not_the_total(reading, verdict) else Belief.BELIEVED


def _is_not_the_total(reading: Reading, verdict: Verdict) -> bool:
    """Whether a closed day's answer differs from its total, read just before, in an hour that both speak for."""
    asked_at = verdict.total_asked
    if not verdict.closed or TOTAL in verdict.failed or asked_at is None or reading.asked_at - asked_at > FRESH:
        return False
    said = {record.hour_start: record.value for record in reading.records}
    spoken = [hour for hour in verdict.hours if not said or min(said) <= hour <= max(said)]
    return any(said.get(hour, ZERO) != verdict.hours[hour] for hour in spoken)


def learned(names: Names, reading: Reading, verdict: Verdict) -> Names:
    """What one day teaches of the others: where spend was seen, and at what price."""
    filter, day = reading.window.filter, reading.window.day
    if filter not in verdict.active or names.beliefs.get(filter) is not Belief.BELIEVED:
        return names
    volume, money = sum(record.volume for record in reading.records), sum(record.money for record in reading.records)
    return replace(
        names,
        spells={**names.spells, filter: with_day(names.spells.get(filter, ()), day)},
        prices={**names.prices, filter: Decimal(money) / volume} if volume > 0 and money > 0 else names.prices,
    )


def with_day(spells: tuple[Spell, ...], day: date) -> tuple[Spell, ...]:
    """Spells with one more day of spend in them: the nearest one grows, if it is near enough."""
    near = [spell for spell in spells if spell.distance(day) <= SPELL_GAP]
    others = tuple(spell for spell in spells if spell not in near)
    merged = Spell(min([day, *(spell.first for spell in near)]), max([day, *(spell.last for spell in near)]))
    return tuple(sorted((*others, merged)))


def lesson(reading: Reading) -> Lesson | None:
    """What the answer to a name that cannot exist teaches; None: nothing, for this moment."""
    if reading.is_good:
        has_spend = any(record.value != ZERO for record in reading.records)
        return Lesson(Unknown.TOTALS if has_spend else Unknown.ZEROS)
    if reading.outcome is Outcome.REFUSED and reading.effect in (Effect.WINDOW, Effect.FILTER):
        return Lesson(Unknown.ERROR, reading.code)
    return None
