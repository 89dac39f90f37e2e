"""Queues, apps and addresses: which are worth asking, which are likely on a day, which are believed. Pure.

What a name that cannot exist gives is the *lesson* of its cut. Where it is an error, a name that gives the same is
set aside; where it is the account's total, a name is believed once it has answered anything but a day's total.
"""

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from types import MappingProxyType

from etl.models import (
    SPLIT_DIMENSIONS,
    TOTAL,
    ZERO_MEASURES,
    ActivePeriod,
    DayState,
    Dimension,
    ErrorScope,
    Measures,
    MemberStatus,
    Outcome,
    SeriesKey,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    app,
    ip,
    queue,
)

KNOWN_QUEUES = (
    "English ImageToText", "Russian ImageToText", "Recaptcha Proxyless", "Recaptcha Proxy-on", "FunCaptcha",
    "Funcaptcha Proxyless", "Square Net Task", "GeeTest Proxy-on", "GeeTest Proxyless", "Turnstile Proxyless",
    "Turnstile Proxy-On", "hCaptcha Proxyless", "hCaptcha Proxy-On", "Recaptcha V3 s0.3", "Recaptcha V3 s0.7",
    "Recaptcha V3 s0.9",
)  # fmt: skip
"""Members attested as ``queue`` values, then names seen only as labels (third-party recordings; no complete list
exists)."""

NONEXISTENT_MEMBERS: Mapping[Dimension, SeriesKey] = MappingProxyType(
    {
        Dimension.QUEUE: queue("no such queue (asked by anticaptcha-etl to learn what unknown names give)"),
        Dimension.APP: app(str(2**31 - 1)),
        Dimension.IP: ip("240.0.0.1"),
    }
)
"""One member of each cut that cannot exist; nothing is ever sent from an address of 240.0.0.0/4 (RFC 1112)."""

ADJACENT_DAYS = 1
"""A name is likely on a day at most so many days from a spell of it."""

MAX_ACTIVE_GAP_DAYS = 7
"""Days without spend that do not end a spell: a weekend or a holiday."""

MAX_TOTAL_AGE = timedelta(minutes=10)
"""A name is measured against a total no older than this: an older one may have been corrected since."""

FAR = math.inf
"""How far a name is from a rest when it is not known what it ever spent."""


@dataclass(frozen=True, slots=True)
class Members:
    """What is known of names.

    ``order``: those the user listed, then the catalogue: the order of a hunt. ``worth``: by cut, those worth asking.
    ``active_periods``: when a name had spend. ``spent``: what it spent on the day last read of it. ``by_hand``: those
    that a person asks for now, though they were set aside or have ended; until they are refused once more.
    """

    order: tuple[SeriesKey, ...] = ()
    candidates: Mapping[Dimension, Set[SeriesKey]] = field(default_factory=dict)
    member_statuses: Mapping[SeriesKey, MemberStatus] = field(default_factory=dict)
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = field(default_factory=dict)
    active_periods: Mapping[SeriesKey, tuple[ActivePeriod, ...]] = field(default_factory=dict)
    last_spend: Mapping[SeriesKey, Measures] = field(default_factory=dict)
    requested_by_user: frozenset[SeriesKey] = frozenset()

    def needs_verification(self, dimension: Dimension) -> bool:
        """Whether a good answer alone does not prove that a member of the cut exists."""
        return (
            dimension in self.unknown_name_behaviours
            and self.unknown_name_behaviours[dimension].answer is UnknownNameAnswer.TOTALS
        )

    def may_request(self, series: SeriesKey) -> bool:
        """Whether the filter may be asked: neither set aside nor ended, or a person asks for it."""
        return not self.is_refused(series) or series in self.requested_by_user

    def is_refused(self, series: SeriesKey) -> bool:
        """Whether the filter was set aside or has ended."""
        return series in self.member_statuses and not self.member_statuses[series].is_requested


def refresh_candidates(names: Members) -> Members:
    """The names with those worth asking: listed by the user or in the catalogue; and queues met before.

    Apps and addresses are asked only when they are listed: each costs a request a day, explained or not.
    """
    met = (series for series in (*names.member_statuses, *names.active_periods) if series.dimension is Dimension.QUEUE)
    known = [series for series in {*names.order, *met} if names.may_request(series)]
    return replace(
        names,
        candidates={
            dimension: frozenset(series for series in known if series.dimension is dimension)
            for dimension in SPLIT_DIMENSIONS
        },
    )


def apply_trusted(
    member_statuses: Mapping[SeriesKey, MemberStatus], trusted: Iterable[SeriesKey]
) -> dict[SeriesKey, MemberStatus]:
    """Beliefs with what the user vouches for; of what the service has ended, that does not help."""
    return {
        **member_statuses,
        **{
            series: MemberStatus.VERIFIED
            for series in trusted
            if member_statuses.get(series) is not MemberStatus.RETIRED
        },
    }


# ---------------------------------------------------------------- which to ask


def recently_active(names: Members, among: Set[SeriesKey], day: date) -> list[SeriesKey]:
    """Those of ``among`` that had spend on neighbouring days, in alphabetical order."""
    return sorted(
        series for series in among if series in names.active_periods and _distance(names, series, day) <= ADJACENT_DAYS
    )


def rank_candidates(
    names: Members, among: Set[SeriesKey], day: date, unattributed_by_hour: Iterable[Measures]
) -> list[SeriesKey]:
    """Members to hunt for, the likeliest first: by what the rest tells, by nearness, then the user's, then the
    catalogue's.

    A rest carries a clue. In an hour in which one unknown queue worked alone, its price per task is that queue's
    price, which seldom moves; and where one is missing, what is left of the day is about what it last did in a day.
    """
    rank = {series: place for place, series in reversed(list(enumerate(names.order)))}
    left = [unattributed for unattributed in unattributed_by_hour if unattributed.volume > 0 and unattributed.money > 0]
    prices, volume = (
        [unattributed.money / unattributed.volume for unattributed in left],
        sum(unattributed.volume for unattributed in left),
    )

    def likelihood(series: SeriesKey) -> tuple[float, int, int, SeriesKey]:
        last = names.last_spend.get(series)
        off = _price_distance(last, prices, volume) if last and left else FAR
        return off, _distance(names, series, day), rank.get(series, len(rank)), series

    return sorted(among, key=likelihood)


def _price_distance(last: Measures, prices: Iterable[Decimal], volume: int) -> float:
    """How far a name's last day is from a rest. A price tells more than a volume, so it weighs as much as three."""
    price = last.money / last.volume
    of_price = min(abs(math.log(one / price)) for one in prices)
    return math.hypot(3 * of_price, math.log(volume / last.volume))


def _distance(names: Members, series: SeriesKey, day: date) -> int:
    """Days to the name's nearest spell; beyond all history when it has none."""
    return min((period.distance(day) for period in names.active_periods.get(series, ())), default=date.max.toordinal())


# ---------------------------------------------------------------- what an answer teaches


def classify(names: Members, snapshot: Snapshot, day_state: DayState) -> Members:
    """What a reading says of its filter. ``day_state`` is the day's without this reading.

    What was once believed is never set aside: its window has failed; or, where the refusal is the filter's own, it
    has ended.
    """
    series = snapshot.window.series
    if series == TOTAL:
        return names
    member_status = _next_status(names, snapshot, day_state) or names.member_statuses.get(series)
    requested_by_user = (
        names.requested_by_user - {series} if snapshot.outcome is Outcome.API_ERROR else names.requested_by_user
    )
    if member_status is None or (
        member_status is names.member_statuses.get(series) and requested_by_user == names.requested_by_user
    ):
        return names
    return refresh_candidates(
        replace(
            names, member_statuses={**names.member_statuses, series: member_status}, requested_by_user=requested_by_user
        )
    )


def _next_status(names: Members, snapshot: Snapshot, day_state: DayState) -> MemberStatus | None:
    """What is to be thought of the reading's filter; None: nothing new."""
    dimension = snapshot.window.series.dimension
    stored = names.member_statuses.get(snapshot.window.series)
    is_loaded = stored is not None and stored.is_loaded
    if snapshot.error_scope is ErrorScope.SERIES:
        return MemberStatus.RETIRED if is_loaded else MemberStatus.EXCLUDED
    if is_loaded:
        return MemberStatus.VERIFIED if stored is MemberStatus.RETIRED and snapshot.is_success else None
    if snapshot.outcome is Outcome.API_ERROR:
        return (
            MemberStatus.EXCLUDED
            if names.unknown_name_behaviours.get(dimension)
            == UnknownNameBehaviour(UnknownNameAnswer.ERROR, snapshot.code)
            else None
        )
    if not snapshot.is_success:
        return None
    return (
        MemberStatus.UNVERIFIED
        if names.needs_verification(dimension) and not _differs_from_total(snapshot, day_state)
        else MemberStatus.VERIFIED
    )


def _differs_from_total(snapshot: Snapshot, day_state: DayState) -> bool:
    """Whether a closed day's answer is less than its total, read just before, in an hour that both speak for, and
    nowhere more.

    What exceeds the total is no part of it. An answer without any record counts on the total's own UTC day alone:
    later the service may have forgotten the day.
    """
    requested_at = day_state.total_requested_at
    if (
        not day_state.is_closed
        or TOTAL in day_state.failed
        or requested_at is None
        or snapshot.requested_at - requested_at > MAX_TOTAL_AGE
    ):
        return False
    if not snapshot.records and snapshot.requested_at.date() != requested_at.date():
        return False
    said = {record.hour_start: record.value for record in snapshot.records}
    pairs = [
        (said.get(hour, ZERO_MEASURES), day_state.total_by_hour[hour]) for hour in _covered_hours(snapshot, day_state)
    ]
    is_part = all(part.volume <= whole.volume and part.money <= whole.money for part, whole in pairs)
    return is_part and any(part != whole for part, whole in pairs)


def _covered_hours(snapshot: Snapshot, day_state: DayState) -> list[datetime]:
    """Hours that the reading and the total both speak for."""
    if not snapshot.records:
        return [hour for hour in day_state.total_by_hour if hour not in day_state.hours_without_full_day_response]
    first, last = snapshot.records[0].hour_start, snapshot.records[-1].hour_start
    return [hour for hour in day_state.total_by_hour if first <= hour <= last]


def record_activity(names: Members, snapshot: Snapshot, day_state: DayState) -> Members:
    """What one day teaches of the others: where spend was seen, and at what price."""
    series, day = snapshot.window.series, snapshot.window.day
    if series not in day_state.active_members or names.member_statuses.get(series) is not MemberStatus.VERIFIED:
        return names
    last_spend = Measures(
        sum(record.volume for record in snapshot.records),
        sum((record.money for record in snapshot.records), Decimal(0)),
    )
    return replace(
        names,
        active_periods={**names.active_periods, series: extend_periods(names.active_periods.get(series, ()), day)},
        last_spend={**names.last_spend, series: last_spend} if has_price(last_spend) else names.last_spend,
    )


def has_price(last_spend: Measures) -> bool:
    """Whether there is a price: a refund can outweigh what was spent."""
    return last_spend.volume > 0 and last_spend.money > 0


def extend_periods(active_periods: tuple[ActivePeriod, ...], day: date) -> tuple[ActivePeriod, ...]:
    """Spells with one more day of spend in them: the nearest one grows, if it is near enough."""
    near = [period for period in active_periods if period.distance(day) <= MAX_ACTIVE_GAP_DAYS]
    others = tuple(period for period in active_periods if period not in near)
    merged = ActivePeriod(min([day, *(period.first for period in near)]), max([day, *(period.last for period in near)]))
    return tuple(sorted((*others, merged)))


def unknown_name_behaviour(snapshot: Snapshot, day_state: DayState) -> UnknownNameBehaviour | None:
    """What the answer to a name that cannot exist teaches; None: nothing, for this moment.

    Zeros are a lesson only where the total has tasks: money alone may be a refund, which a total can show and lose
    again.
    """
    if snapshot.is_success and any(record.value != ZERO_MEASURES for record in snapshot.records):
        return UnknownNameBehaviour(UnknownNameAnswer.TOTALS)
    if snapshot.is_success and any(
        day_state.total_by_hour[hour].volume > 0 for hour in _covered_hours(snapshot, day_state)
    ):
        return UnknownNameBehaviour(UnknownNameAnswer.ZEROS)
    if snapshot.outcome is Outcome.API_ERROR and snapshot.error_scope in (ErrorScope.WINDOW, ErrorScope.SERIES):
        return UnknownNameBehaviour(UnknownNameAnswer.ERROR, snapshot.code)
    return None
