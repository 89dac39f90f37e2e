"""Queues, apps and IPs: which are candidates, which were recently active, which are verified. Pure.

The response to a name that cannot exist shows how the API treats unknown names. If that is an error, a name with the
same error is excluded; if it is the account's total, a name is verified once it returns something else.
"""

import math
from collections.abc import Iterable, Mapping, Set
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from decimal import Decimal
from types import MappingProxyType

from etl.hour_values import HourValues
from etl.models import (
    SPLIT_DIMENSIONS,
    TOTAL,
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
from etl.money import to_dollars

KNOWN_QUEUES = (
    "English ImageToText", "Russian ImageToText", "Recaptcha Proxyless", "Recaptcha Proxy-on", "FunCaptcha",
    "Funcaptcha Proxyless", "Square Net Task", "GeeTest Proxy-on", "GeeTest Proxyless", "Turnstile Proxyless",
    "Turnstile Proxy-On", "hCaptcha Proxyless", "hCaptcha Proxy-On", "Recaptcha V3 s0.3", "Recaptcha V3 s0.7",
    "Recaptcha V3 s0.9",
)  # fmt: skip
"""Names seen as ``queue`` values, then names seen only as labels (third-party recordings; no complete list exists)."""

NONEXISTENT_MEMBERS: Mapping[Dimension, SeriesKey] = MappingProxyType(
    {
        Dimension.QUEUE: queue("no such queue (asked by anticaptcha-etl to learn what unknown names give)"),
        Dimension.APP: app(str(2**31 - 1)),
        Dimension.IP: ip("240.0.0.1"),
    }
)
"""A member of each dimension that cannot exist; 240.0.0.0/4 is reserved (RFC 1112).

Warehouses store these names, so they must never change.
"""

ADJACENT = timedelta(days=1)
"""A member was recently active on days at most this far from one of its active periods."""

MAX_ACTIVE_GAP_DAYS = 7
"""Days without spend that do not end an active period: a weekend or a holiday."""

MAX_GAP = timedelta(days=MAX_ACTIVE_GAP_DAYS)

AHEAD = MAX_GAP + ADJACENT
"""Members are requested this far from their active periods on days that are this far from each other."""

MAX_TOTAL_AGE = timedelta(minutes=10)
"""A member is compared only with a total no older than this: an older one may have been corrected since."""


Periods = Mapping[SeriesKey, tuple[ActivePeriod, ...]]


@dataclass(frozen=True, slots=True)
class Members:
    """What is known about names.

    ``order``: names listed by the user, then known queues. ``candidates``: names worth requesting, by dimension.
    ``last_spend``: what a name spent on the day it was last read. ``requested_by_user``: names on the command line,
    requested although excluded or retired, until the API refuses them again. ``trusted``: names that exist because the
    user says so. ``settled``: dimensions for which it is sure in this run what the API returns for unknown names.
    """

    order: tuple[SeriesKey, ...] = ()
    candidates: Mapping[Dimension, Set[SeriesKey]] = field(default_factory=dict)
    member_statuses: Mapping[SeriesKey, MemberStatus] = field(default_factory=dict)
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = field(default_factory=dict)
    active_periods: Mapping[SeriesKey, tuple[ActivePeriod, ...]] = field(default_factory=dict)
    last_spend: Mapping[SeriesKey, Measures] = field(default_factory=dict)
    requested_by_user: frozenset[SeriesKey] = frozenset()
    trusted: frozenset[SeriesKey] = frozenset()
    settled: frozenset[Dimension] = frozenset()

    def needs_verification(self, dimension: Dimension) -> bool:
        """True if the API answers unknown names with totals, so a successful response does not verify the name."""
        behaviour = self.unknown_name_behaviours.get(dimension)
        return behaviour is not None and behaviour.answer is UnknownNameAnswer.TOTALS

    def may_not_exist(self, series: SeriesKey) -> bool:
        """True unless the member has had spend, was retired, or is trusted: zeros alone do not show that it exists."""
        is_retired = self.member_statuses.get(series) is MemberStatus.RETIRED
        return series not in self.active_periods and series not in self.trusted and not is_retired

    def is_refused(self, series: SeriesKey) -> bool:
        """True if the member is excluded or retired."""
        return series in self.member_statuses and not self.member_statuses[series].is_requested

    def may_request(self, series: SeriesKey) -> bool:
        return not self.is_refused(series) or series in self.requested_by_user


def refresh_candidates(members: Members) -> Members:
    """Recompute the candidates: names listed by the user, known queues, and queues seen before.

    Apps and IPs are requested only if they are listed: each costs a request per day, explained or not.
    """
    seen = {*members.member_statuses, *members.active_periods}
    names = {*members.order, *(series for series in seen if series.dimension is Dimension.QUEUE)}
    allowed = [series for series in names if members.may_request(series)]
    candidates = {one: frozenset(series for series in allowed if series.dimension is one) for one in SPLIT_DIMENSIONS}
    return replace(members, candidates=candidates)


def apply_trusted(
    member_statuses: Mapping[SeriesKey, MemberStatus], trusted: Iterable[SeriesKey]
) -> dict[SeriesKey, MemberStatus]:
    """Return the statuses with names that the user trusts as verified, unless the API has retired them."""
    usable = (series for series in trusted if member_statuses.get(series) is not MemberStatus.RETIRED)
    return {**member_statuses, **dict.fromkeys(usable, MemberStatus.VERIFIED)}


# ---------------------------------------------------------------- which to request


def recently_active(
    members: Members, among: Set[SeriesKey], day: date, distance: timedelta = ADJACENT
) -> list[SeriesKey]:
    """Return those of ``among`` that had spend at most ``distance`` from a day, in alphabetical order."""
    day_before, day_after, periods = day - distance, day + distance, members.active_periods
    return sorted(
        {one for one in among for near in periods.get(one, ()) if near.first <= day_after and near.last >= day_before}
    )


def days_brought_near(before: Periods, after: Periods, series: SeriesKey, day: date) -> list[date]:
    """Return the days on which a member counts as recently active since it had spend on ``day``."""
    old, new = before.get(series, ()), after.get(series, ())
    if old == new:
        return []
    (period,) = (one for one in new if one.first <= day <= one.last)
    first, last = max(period.first, day - MAX_GAP) - ADJACENT, min(period.last, day + MAX_GAP) + ADJACENT
    days = (first + timedelta(days=n) for n in range((last - first).days + 1))
    known = [(period.first - ADJACENT, period.last + ADJACENT) for period in old]
    return [one for one in days if not any(start <= one <= end for start, end in known)]


def is_ahead(day: date) -> bool:
    """True if members may be requested on a day before the days between it and their active periods."""
    return day.toordinal() % AHEAD.days == 0


def next_ahead(day: date) -> date:
    """Return the first such day before a day."""
    return day - timedelta(days=(day.toordinal() - 1) % AHEAD.days + 1)


def is_new_app_or_ip(members: Members, series: SeriesKey) -> bool:
    return series.dimension in (Dimension.APP, Dimension.IP) and series not in members.member_statuses


def rank_candidates(
    members: Members, among: Set[SeriesKey], day: date, unattributed_by_hour: HourValues
) -> list[SeriesKey]:
    """Order members by how well they fit the unattributed amounts, then by closeness, then by ``Members.order``.

    If one missing queue was the only one with spend in an hour, the hour's price per task is that queue's price, which
    rarely changes. If one queue is missing, the day's unattributed volume is about its usual volume per day.
    """
    order = {series: place for place, series in reversed(list(enumerate(members.order)))}
    hours = [(volume, money) for _, volume, money in unattributed_by_hour.with_spend() if volume > 0 and money > 0]
    prices = [to_dollars(money) / volume for volume, money in hours]
    volume = sum(volume for volume, _ in hours)

    def rank(series: SeriesKey) -> tuple[float, int, int, SeriesKey]:
        last = members.last_spend.get(series)
        mismatch = _mismatch(last, prices, volume) if last and hours else math.inf
        return mismatch, _distance(members, series, day), order.get(series, len(order)), series

    return sorted(among, key=rank)


def with_fitting_price(
    members: Members, ranked: Iterable[SeriesKey], unattributed_by_hour: HourValues, max_change: Decimal
) -> list[SeriesKey]:
    """Those members whose last price per task is about that of an hour's unattributed amount."""
    prices = [
        to_dollars(money) / volume for _, volume, money in unattributed_by_hour.with_spend() if volume > 0 and money > 0
    ]
    found = []
    for series in ranked:
        last = members.last_spend.get(series)
        if last and any(abs(one * last.volume / last.money - 1) <= max_change for one in prices):
            found.append(series)
    return found


def _mismatch(last: Measures, prices: Iterable[Decimal], volume: int) -> float:
    """How much a member's last day differs from the unattributed hours. The price counts three times the volume."""
    price = last.money / last.volume
    price_difference = min(abs(math.log(one / price)) for one in prices)
    return math.hypot(3 * price_difference, math.log(volume / last.volume))


def _distance(members: Members, series: SeriesKey, day: date) -> int:
    """Days to the member's nearest active period; a very large number if it was never active."""
    periods = members.active_periods.get(series, ())
    return min((period.distance(day) for period in periods), default=date.max.toordinal())


# ---------------------------------------------------------------- what a response shows


def classify(members: Members, snapshot: Snapshot, day_state: DayState) -> Members:
    """Update the status of the snapshot's member. ``day_state`` is the day's without this snapshot.

    A verified name that has had spend is never excluded. If the API refuses it, its window fails; if the refusal
    concerns the member itself, it is retired.
    """
    series = snapshot.window.series
    if series == TOTAL:
        return members
    old = members.member_statuses.get(series)
    new = _next_status(members, snapshot, day_state) or old
    is_refused = snapshot.outcome is Outcome.API_ERROR
    requested_by_user = members.requested_by_user - {series} if is_refused else members.requested_by_user
    if new is None or (new is old and requested_by_user == members.requested_by_user):
        return members
    statuses = {**members.member_statuses, series: new}
    return refresh_candidates(replace(members, member_statuses=statuses, requested_by_user=requested_by_user))


def _next_status(members: Members, snapshot: Snapshot, day_state: DayState) -> MemberStatus | None:
    """The status that a snapshot shows, or None if it shows nothing."""
    dimension = snapshot.window.series.dimension
    stored = members.member_statuses.get(snapshot.window.series)
    is_loaded = stored is not None and stored.is_loaded
    if snapshot.error_scope is ErrorScope.SERIES:
        return MemberStatus.RETIRED if is_loaded else MemberStatus.EXCLUDED
    may_not_exist = members.may_not_exist(snapshot.window.series)
    if snapshot.outcome is Outcome.API_ERROR and may_not_exist:
        is_unknown = members.unknown_name_behaviours.get(dimension) == refusal(snapshot)
        return MemberStatus.EXCLUDED if is_unknown else None
    is_sure = dimension in members.settled or members.needs_verification(dimension)
    if may_not_exist and not is_sure and equals_total(snapshot, day_state):
        return MemberStatus.UNVERIFIED
    if is_loaded:
        return MemberStatus.VERIFIED if stored is MemberStatus.RETIRED and snapshot.is_success else None
    if not snapshot.is_success:
        return None
    is_verified = not members.needs_verification(dimension) or _differs_from_total(snapshot, day_state)
    return MemberStatus.VERIFIED if is_verified else MemberStatus.UNVERIFIED


def _differs_from_total(snapshot: Snapshot, day_state: DayState) -> bool:
    """True if a closed day's response is less than its recent total in an hour that both cover, and nowhere more.

    A value above the total cannot be part of it.
    """
    total_at = day_state.total_requested_at
    if not day_state.is_closed or TOTAL in day_state.failed or total_at is None:
        return False
    if snapshot.requested_at - total_at > MAX_TOTAL_AGE:
        return False
    hours = _covered_hours(snapshot, day_state)
    pairs = [(snapshot.values.at(hour), day_state.total_by_hour.at(hour)) for hour in hours]
    is_part = all(volume <= whole_volume and money <= whole for (volume, money), (whole_volume, whole) in pairs)
    return is_part and any(part != whole for part, whole in pairs)


def equals_total(snapshot: Snapshot, day_state: DayState) -> bool:
    """True if a response with spend is the day's total, as far as the day's hours are over."""
    if not snapshot.is_success:
        return False
    hours = _covered_hours(snapshot, day_state)
    pairs = [(snapshot.values.at(hour), day_state.total_by_hour.at(hour)) for hour in hours]
    over = pairs if day_state.is_closed else pairs[:-1]
    return all(part == whole for part, whole in over) and any(whole != (0, 0) for _, whole in over)


def _covered_hours(snapshot: Snapshot, day_state: DayState) -> list[int]:
    """Hours that the snapshot and the total both cover.

    A response without any record covers hours only on the UTC day of the total's request: later, the API may no longer
    return that day.
    """
    own, of_total = snapshot.values.hours, day_state.total_by_hour.hours
    if not own:
        total_at = day_state.total_requested_at
        if total_at is None or snapshot.requested_at.date() != total_at.date():
            return []
        return [hour for hour in of_total if hour not in day_state.hours_without_full_day_response]
    return [hour for hour in of_total if own[0] <= hour <= own[-1]]


def apply_unknown_name_behaviour(members: Members, dimension: Dimension, behaviour: UnknownNameBehaviour) -> Members:
    """Remember what the API returns for unknown names; if that is now the total, names without spend are unverified."""
    known, statuses = members.unknown_name_behaviours, members.member_statuses
    if dimension in known and behaviour.answer is UnknownNameAnswer.TOTALS != known[dimension].answer:
        statuses = {
            series: MemberStatus.UNVERIFIED
            if series.dimension is dimension and status is MemberStatus.VERIFIED and members.may_not_exist(series)
            else status
            for series, status in statuses.items()
        }
    return replace(members, unknown_name_behaviours={**known, dimension: behaviour}, member_statuses=statuses)


def record_activity(members: Members, snapshot: Snapshot, day_state: DayState) -> Members:
    """Remember when a verified member had spend, and how much."""
    series, day = snapshot.window.series, snapshot.window.day
    is_verified = members.member_statuses.get(series) is MemberStatus.VERIFIED
    if series not in day_state.active_members or not is_verified:
        return members
    spend, members = Measures.of(*snapshot.values.total), add_active_day(members, series, day)
    return replace(members, last_spend={**members.last_spend, series: spend}) if has_price(spend) else members


def add_active_day(members: Members, series: SeriesKey, day: date) -> Members:
    before = members.active_periods.get(series, ())
    periods = extend_periods(before, day)
    return (
        members if periods == before else replace(members, active_periods={**members.active_periods, series: periods})
    )


def has_price(spend: Measures) -> bool:
    """True if a price per task can be computed; a refund can exceed the spend."""
    return spend.volume > 0 and spend.money > 0


def extend_periods(periods: tuple[ActivePeriod, ...], day: date) -> tuple[ActivePeriod, ...]:
    """Add a day with spend to a member's active periods; it merges periods that are close enough."""
    near = [period for period in periods if period.distance(day) <= MAX_ACTIVE_GAP_DAYS]
    others = (period for period in periods if period not in near)
    first, last = min([day, *(one.first for one in near)]), max([day, *(one.last for one in near)])
    return tuple(sorted((*others, ActivePeriod(first, last))))


def unknown_name_behaviour(snapshot: Snapshot, day_state: DayState) -> UnknownNameBehaviour | None:
    """Return what the response to a name that cannot exist shows, or None if it shows nothing yet.

    Zeros count only if the total has tasks: money alone may be a refund, which may disappear from the total later.
    """
    if snapshot.is_success and snapshot.values.has_spend:
        return UnknownNameBehaviour(UnknownNameAnswer.TOTALS)
    hours = _covered_hours(snapshot, day_state)
    if snapshot.is_success and any(day_state.total_by_hour.at(hour)[0] > 0 for hour in hours):
        return UnknownNameBehaviour(UnknownNameAnswer.ZEROS)
    if snapshot.error_scope in (ErrorScope.WINDOW, ErrorScope.SERIES):
        return refusal(snapshot)
    return None


def refusal(snapshot: Snapshot) -> UnknownNameBehaviour:
    """How the API answers unknown names, if this snapshot's error is an answer to one."""
    return UnknownNameBehaviour(UnknownNameAnswer.ERROR, snapshot.code)
