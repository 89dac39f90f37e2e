"""Nights of syncs against the stand-in's own decisions, whatever it does where its documentation is silent.

After every night, also one that was killed: each hour of each cut sums to exactly the total last given for it; no
queue, app or address holds money that is not its own; who is doubted or set aside holds nothing; a contradicted hour
is all rest.
"""

import json
import random
from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from decimal import ROUND_HALF_EVEN, Decimal
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.extract import protocol
from etl.extract.planner import NONEXISTENT_MEMBERS, StopReason, SyncOptions
from etl.models import (
    HOUR,
    SPLIT_DIMENSIONS,
    TOTAL,
    ZERO_MEASURES,
    Dimension,
    Fact,
    Measures,
    MemberStatus,
    Outcome,
    SeriesKey,
    Snapshot,
    Window,
    app,
    day_start,
    ip,
    queue,
)
from etl.responses import ApiError, Response, TransportError
from etl.sandbox.behaviour import METHOD, Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.secret import Secret
from etl.transform import parse
from etl.transform.breakdown import ROUNDING_TOLERANCE
from etl.transform.reconcile import ReconciledDay, diff
from tests.property.nightly_lives import Nights

TODAY = date(2026, 11, 22)
EPOCH = date(1970, 1, 1)
NAMES = ("Alpha", "Beta", "Gamma", "Delta", "Epsilon")
APPS = (1011, 1022, 1033)
IPS = ("192.0.2.10", "192.0.2.20", "198.51.100.7")
LISTED = (
    queue("Alpah"), queue("beta"), queue("Epsilon"),
    app("1011"), app("1022"), app("1033"), app("999"), app("998"),
    ip("192.0.2.10"), ip("192.0.2.20"), ip("203.0.113.9"),
)  # fmt: skip
"""What users list: misspelt queues and foreign apps and addresses are among it."""
KEY = Secret("a-key-for-the-sandbox")
PLACE = Decimal("1e-9")
LATE = timedelta(seconds=30)
"""How long a request may lie with the service before it looks into its books."""

LOUD = (
    FaultKind.UNKNOWN_CODE, FaultKind.NO_SLOT, FaultKind.HTML, FaultKind.HTML_500, FaultKind.HTML_503, FaultKind.RETRY_AFTER,
    FaultKind.REDIRECT, FaultKind.EMPTY, FaultKind.TRUNCATED, FaultKind.RESET, FaultKind.NAN, FaultKind.NEGATIVE_VOLUME,
    FaultKind.VENDOR_PAGE, FaultKind.VENDOR_EXAMPLE,
)  # fmt: skip
FATAL = (FaultKind.IP_BLOCKED, FaultKind.ZERO_BALANCE)
UNTRUE = (FaultKind.NEGATIVE, FaultKind.NULL_DATA, FaultKind.NO_DATA)
"""Good answers that are wrong. They are kept from strangers: that one never differs from the total is all that gives
it away."""
SPOILED = (FaultKind.NAN, FaultKind.NEGATIVE_VOLUME)
"""They refuse one record; where the other of two for the hour is left, the answer is good and wrong too."""


class EffectiveSetting(NamedTuple):
    """What the stand-in told in one reading, when it made up its mind, and what was wrong with it."""

    at: datetime
    hours: dict[datetime, Measures]
    fault: FaultKind | None


@dataclass(frozen=True)
class Night:
    """One sync and the pause before it. ``slow``: most seconds between two answers. ``failure``: per cent of
    answers."""

    hours_before: int = 24
    known: int = len(NAMES)
    configured: tuple[SeriesKey, ...] = ()
    trusted: tuple[SeriesKey, ...] = ()
    lookback: int = 2
    concurrency: int = 4
    max_requests: int | None = None
    kill_after: int | None = None
    until: int | None = None
    slow: int = 2
    failure: int = 0
    fatal: bool = False

    def options(self, today: date) -> SyncOptions:
        return SyncOptions(
            "default",
            today,
            until=None if self.until is None else today - timedelta(days=self.until),
            lookback=self.lookback,
            empty_days=3,
            configured=self.configured,
            trusted=self.trusted,
            known_queues=NAMES[: self.known],
            concurrency=self.concurrency,
            max_requests=self.max_requests,
        )


class World(Nights):
    """A stand-in, and what a warehouse of its answers would hold, kept up to date by the changes of every commit
    alone."""

    def __init__(self, dataset: Dataset, behaviour: Behaviour, now: datetime, seed: int) -> None:
        super().__init__(now, random.Random(seed))
        self.sandbox = Sandbox(dataset, behaviour, now=lambda: self.decides_at)
        self.decides_at = now
        self.night = Night()
        self.told: dict[int, EffectiveSetting] = {}
        self.facts: dict[date, dict[tuple[SeriesKey, datetime], Fact]] = {}
        self.said: list[str] = []
        self.lied = False

    def play(self, night: Night) -> StopReason | None:
        self.now += night.hours_before * HOUR
        self.night = night
        self.said.append(f"--- {self.now} {night}")
        return self.sync(night.options(self.now.date()), night.kill_after)

    def pause(self) -> timedelta:
        return timedelta(seconds=self.random.choice([1, 1, 1, self.night.slow]) * self.random.random() + 0.001)

    def commit(self, day: date, reconciled: ReconciledDay) -> None:
        facts = self.facts.setdefault(day, {})
        for fact in diff(replace(reconciled, stored_facts=dict(facts)), reconciled).facts:
            facts[fact.series, fact.hour_start] = fact
            if fact.is_delete:
                del facts[fact.series, fact.hour_start]
        super().commit(day, reconciled)

    def exists(self, series: SeriesKey) -> bool:
        dataset = self.sandbox.dataset
        return series.dimension is Dimension.TOTAL or series.member in (
            *dataset.names,
            *map(str, dataset.apps),
            *dataset.ips,
        )

    def beliefs_in_doubt(self) -> set[SeriesKey]:
        """Those who have only ever answered with the total."""
        return {
            series for series, member_status in self.member_statuses.items() if member_status is MemberStatus.UNVERIFIED
        }

    # -- asking

    def read(self, window: Window, requested_at: datetime) -> Snapshot:
        self.decides_at = requested_at + min(self.now - requested_at, LATE) * self.random.random()
        kind = self._trouble(window)
        self.sandbox.faults = (Fault(kind),) if kind else ()
        reply = self.sandbox.respond(METHOD, protocol.encode_request(window, KEY))
        body = reply.body[: len(reply.body) // 2] if kind is FaultKind.TRUNCATED else reply.body
        answer = Response(window, requested_at, protocol.parse_response(reply.status, body), reply.status, body)
        if kind is FaultKind.RESET:
            answer = Response(window, requested_at, TransportError("reset", "for a test"))
        snapshot = parse.parse_snapshot(answer, self.number, self.grid)
        is_told = snapshot.outcome in (Outcome.SUCCESS, Outcome.PARTIAL)
        self.told[self.number] = EffectiveSetting(self.decides_at, _hours(body) if is_told else {}, kind)
        tasks = [record.volume for record in snapshot.records]
        came = f"{snapshot.number}: {snapshot.outcome} {snapshot.code}, {len(tasks)} hours, {sum(tasks)} tasks"
        self.said.append(f"{requested_at:%d %H:%M:%S} {self.decides_at:%d %H:%M:%S} {window}: {came} {kind or ''}")
        return snapshot

    def _trouble(self, window: Window) -> FaultKind | None:
        if self.random.random() * 100 >= self.night.failure:
            return None
        is_stranger = not self.exists(window.series)
        untrue = {*UNTRUE, *(SPOILED if self.sandbox.behaviour.duplicates == "differing" else ())}
        kinds = [kind for kind in (*LOUD, *UNTRUE) if not (is_stranger and kind in untrue)] + [
            *FATAL
        ] * self.night.fatal
        if window.series in NONEXISTENT_MEMBERS.values():
            kinds.remove(FaultKind.UNKNOWN_CODE)  # the one refusal that cannot be told from the service's own
        kind: FaultKind = self.random.choice(kinds)
        self.lied = self.lied or kind in untrue
        return kind

    # -- what should be

    def own(self, series: SeriesKey, hour: datetime, at: datetime) -> Measures:
        """What the books held at a moment, of one hour of a member that exists."""
        shift = timedelta(seconds=self.sandbox.behaviour.grid_seconds)
        kind = {Dimension.QUEUE: "queue", Dimension.APP: "soft_id", Dimension.IP: "ip"}.get(series.dimension)
        member = int(series.member or 0) if series.dimension is Dimension.APP else series.member
        as_of = int(at.timestamp()) - self.sandbox.behaviour.grid_seconds
        narrowed = {kind: member} if kind else {}
        stored_facts = hour - shift
        hours = self.sandbox.dataset.day((stored_facts.date() - EPOCH).days, as_of, **narrowed)  # type: ignore[arg-type]  # one of three
        return Measures(*hours[stored_facts.hour])

    def check(self) -> None:
        for day in self.expected_rows:
            self._check_totals(day)
            self._check_sums(day)
            self._check_members(day)
            self._check_contradictions(day)

    def _check_totals(self, day: date) -> None:
        """Each hour's total is the last that was given for it."""
        given: dict[datetime, set[Measures]] = {}
        totals = [snapshot for snapshot in self.expected_rows[day].snapshots if snapshot.window.series == TOTAL]
        for snapshot in sorted(totals, key=lambda snapshot: (snapshot.requested_at, snapshot.number)):
            told = self.told[snapshot.number]
            if snapshot.outcome is Outcome.PARTIAL or snapshot.is_success:
                for hour in self._own_hours(day):
                    if (said := _said(told, snapshot, hour)) is not None:
                        given[hour] = {said}
                    elif hour not in told.hours and not _is_refused(snapshot, hour):
                        given[hour] = given.get(hour, set()) | {
                            ZERO_MEASURES
                        }  # it may be taken for idle, but need not be
        held = {
            hour: Measures(fact.volume, fact.money)
            for (series, hour), fact in self.facts[day].items()
            if series == TOTAL
        }
        for hour, values in given.items():
            assert hour in held or values == {ZERO_MEASURES}, f"{day}: the total of {hour} is not held"
        for hour, value in held.items():
            assert value in given.get(hour, {ZERO_MEASURES}), (
                f"{day}: the total of {hour} is {value}, given was {given.get(hour)}"
            )

    def _own_hours(self, day: date) -> list[datetime]:
        return [day_start(day) + timedelta(seconds=self.grid or 0) + n * HOUR for n in range(24)]

    def _check_sums(self, day: date) -> None:
        """Members and rest of each cut sum to the total in every hour."""
        facts = self.facts[day]
        totals = {hour: Measures(fact.volume, fact.money) for (series, hour), fact in facts.items() if series == TOTAL}
        for dimension in SPLIT_DIMENSIONS:
            rows = [fact for fact in facts.values() if fact.series.dimension is dimension]
            assert all(fact.hour_start in totals for fact in rows), f"{day}: {dimension} without a total"
            for hour, total in totals.items() if rows or dimension is Dimension.QUEUE else ():
                of_hour = [fact for fact in rows if fact.hour_start == hour]
                summed = Measures(
                    sum(fact.volume for fact in of_hour), sum((fact.money for fact in of_hour), Decimal(0))
                )
                assert summed == total, f"{day}: {dimension} of {hour} sums to {summed}, not {total}"

    def _check_members(self, day: date) -> None:
        """Who holds money exists, is believed, and spent just that when it was read."""
        for (series, hour), fact in self.facts[day].items():
            if series.dimension is Dimension.TOTAL or series.is_unattributed:
                continue
            assert self.exists(series), f"{day}: {series}, which does not exist, holds money in {hour}"
            member_status = self.member_statuses.get(series)
            is_doubted = self.state.members.needs_verification(series.dimension) and member_status in (
                None,
                MemberStatus.UNVERIFIED,
            )
            assert not is_doubted, f"{day}: {series} is {member_status} and holds money in {hour}"
            assert member_status is not MemberStatus.EXCLUDED, (
                f"{day}: {series} is {member_status} and holds money in {hour}"
            )
            told = self.told[fact.snapshot]
            own = told.hours.get(hour) if told.fault else self.own(series, hour, told.at)
            assert (fact.volume, fact.money) == own, f"{day}: {series} holds {fact}, its own is {own}"

    def _check_contradictions(self, day: date) -> None:
        """Where members exceed the total, the hour is one row, the rest; elsewhere they do not."""
        facts, reconciled = self.facts[day], self.folds[day]
        for unattributed, hour in reconciled.over_allocations:
            of_hour = [
                fact
                for fact in facts.values()
                if fact.series.dimension is unattributed.dimension and fact.hour_start == hour
            ]
            assert {fact.series for fact in of_hour} <= {unattributed}, f"{day}: {hour} is contradicted and split"
        members = [
            fact
            for fact in facts.values()
            if fact.series.dimension in SPLIT_DIMENSIONS and not fact.series.is_unattributed
        ]
        for dimension, hour in {(fact.series.dimension, fact.hour_start) for fact in members}:
            count = sum(fact.series.dimension is dimension and fact.hour_start == hour for fact in members)
            left = facts.get((SeriesKey(dimension, None), hour))
            if left is not None and (left.volume or abs(left.money) > ROUNDING_TOLERANCE * (count + 1)):
                assert left.volume >= 0, f"{day}: {dimension} exceeds the total in {hour}"
                assert left.money >= -ROUNDING_TOLERANCE * (count + 1), (
                    f"{day}: {dimension} exceeds the total in {hour}"
                )

    def __repr__(self) -> str:
        return "\n".join([repr(self.sandbox.behaviour), repr(self.sandbox.dataset), *self.said])


def _hours(body: bytes) -> dict[datetime, Measures]:
    """The hours of an answer, read without the program's own parser; of two records of an hour the larger."""
    found = json.loads(body, parse_float=Decimal).get("data") or []
    hours: dict[datetime, Measures] = {}
    for record in found.values() if isinstance(found, dict) else found:
        money = Decimal(record["money"]).quantize(PLACE, ROUND_HALF_EVEN)
        hour, value = datetime.fromtimestamp(record["dateFrom"], UTC), Measures(int(record["volume"]), money)
        if value.volume >= 0 and money.is_finite():
            hours[hour] = max(value, hours.get(hour, value))
    return hours


def _said(told: EffectiveSetting, snapshot: Snapshot, hour: datetime) -> Measures | None:
    """What a total's answer says of an hour without any doubt."""
    if hour in told.hours:
        return told.hours[hour] if hour <= snapshot.requested_at else None
    own = [record.hour_start for record in snapshot.records]
    is_inside = bool(own) and own[0] < hour < own[-1]
    return ZERO_MEASURES if is_inside and not _is_refused(snapshot, hour) else None


def _is_refused(snapshot: Snapshot, hour: datetime) -> bool:
    return any(rejection.hour_start in (None, hour) for rejection in snapshot.rejections)


# ---------------------------------------------------------------- any world, any nights


@st.composite
def worlds(draw: st.DrawFn) -> World:
    dataset = Dataset(
        seed=draw(st.integers(0, 10**6)),
        begins=TODAY - timedelta(days=draw(st.integers(2, 9))),
        queues=NAMES[: draw(st.integers(1, 5))],
        idle_hours=draw(st.sampled_from([0, 40, 90])),
        idle_weeks=0,
        turnover=False,
        active_periods=draw(st.sampled_from([None, (2, 1)])),
        corrections=draw(st.booleans()),
        places=draw(st.sampled_from([6, 9, 2])),
        unlisted=draw(st.sampled_from([0, 10])),
        apps=APPS[: draw(st.integers(0, 3))],
        ips=IPS[: draw(st.integers(0, 3))],
    )
    behaviour = Behaviour(
        idle=draw(st.sampled_from(["zero", "omit"])),
        buckets=draw(st.sampled_from([24, 23, 25])),
        numbers=draw(st.sampled_from(["number", "string", "noise"])),
        listed=draw(st.sampled_from(["array", "object"])),
        unknown_queue=draw(st.sampled_from(["error", "zeros", "totals"])),
        foreign_app=draw(st.sampled_from(["error", "zeros", "totals"])),
        foreign_ip=draw(st.sampled_from(["zeros", "totals", "error"])),
        running=draw(st.booleans()),
        unbegun=draw(st.booleans()),
        duplicates=draw(st.sampled_from(["none", "identical", "differing"])),
        grid_seconds=draw(st.sampled_from([0, 0, 0, -900])),
        retention_days=draw(st.sampled_from([None, None, None, 5])),
    )
    now = datetime(2026, 11, 22, draw(st.integers(0, 23)), draw(st.integers(0, 59)), tzinfo=UTC)
    return World(dataset, behaviour, now, draw(st.integers(0, 10**6)))


nights = st.builds(
    Night,
    hours_before=st.sampled_from([0, 1, 5, 24, 24, 24, 72]),
    known=st.sampled_from([5, 5, 2, 0]),
    configured=st.lists(st.sampled_from(LISTED), max_size=4, unique=True).map(tuple),
    trusted=st.sampled_from([(), (), (), (queue("Alpha"),)]),
    lookback=st.sampled_from([2, 2, 0, 3]),
    concurrency=st.integers(1, 6),
    max_requests=st.sampled_from([None, None, None, None, 1, 7]),
    kill_after=st.sampled_from([None, None, None, 0, 3, 10, 30]),
    until=st.sampled_from([None, None, None, None, None, 0, 1, 4]),
    slow=st.sampled_from([2, 2, 60, 900, 4000]),
    failure=st.sampled_from([0, 0, 0, 5, 30]),
    fatal=st.booleans(),
)

plans = st.lists(nights, min_size=1, max_size=5)
calm_nights = st.builds(
    Night,
    hours_before=st.just(0),
    configured=st.sampled_from([(), LISTED]),
    lookback=st.integers(0, 3),
    concurrency=st.integers(1, 6),
)
slowly = settings(deadline=None, suppress_health_check=list(HealthCheck))


def play(world: World, plan: Iterable[Night]) -> None:
    """Nights, each with what must hold after it; an error tells the service's habits and all that was asked and
    answered."""
    try:
        for night in plan:
            why = world.play(night)
            assert why is not StopReason.LIMIT or night.max_requests is not None
            world.check()
            if why is StopReason.DONE:
                check_explained(world, night)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{world}") from error


def check_explained(world: World, night: Night) -> None:
    """After a night in which nothing failed, closed days are explained, if names are known and none is in doubt."""
    options, dataset = world.state.options, world.sandbox.dataset
    member_statuses = [world.member_statuses.get(queue(name)) for name in dataset.names]
    in_doubt = any(series.dimension is Dimension.QUEUE for series in world.beliefs_in_doubt())
    is_ended = any(member_status is not None and not member_status.is_requested for member_status in member_statuses)
    is_known = {*map(queue, dataset.names)} <= {*map(queue, options.known_queues), *options.configured}
    forgets = world.sandbox.behaviour.retention_days is not None
    if night.failure or not is_known or in_doubt or is_ended or world.lied or dataset.corrections or forgets:
        return
    for day in world.expected_rows:
        day_state = world.folds[day].day_state
        if day <= options.end_day:
            assert day_state.is_explained or not day_state.is_closed, f"{day} is not explained: {day_state}"


@settings(slowly, max_examples=250)
@given(worlds(), plans)
def test_whatever_the_service_does_each_hour_sums_to_its_total_and_nobody_holds_what_is_not_its_own(
    world: World, plan: list[Night]
) -> None:
    play(world, plan)


@pytest.mark.long
@settings(slowly, max_examples=1_500)
@given(worlds(), plans)
def test_over_many_more_nights_each_hour_sums_to_its_total_and_nobody_holds_what_is_not_its_own(
    world: World, plan: list[Night]
) -> None:
    play(world, plan)


@settings(slowly, max_examples=60)
@given(worlds(), calm_nights)
def test_a_second_run_right_after_asks_the_totals_that_may_change_and_changes_nothing(
    world: World, night: Night
) -> None:
    world.sandbox.dataset = replace(world.sandbox.dataset, corrections=False)
    play(world, [night])
    if world.beliefs_in_doubt() or world.sandbox.behaviour.retention_days:  # are weighed again; forgets from day to day
        return
    growing = {day for day in world.expected_rows if not world.folds[day].day_state.is_closed}
    before = {day: dict(facts) for day, facts in world.facts.items() if day not in growing}
    play(world, [replace(night, hours_before=0)])
    options = world.state.options
    asked = [window for window in world.asked if window.day not in growing and window.day != options.today]
    try:
        assert all(window.series == TOTAL and options.is_in_lookback(window.day) for window in asked), [
            str(window) for window in asked
        ]
        assert {day: facts for day, facts in world.facts.items() if day in before} == before
    except AssertionError as error:
        raise AssertionError(f"{error}\n{world}") from error


def test_a_refusal_is_what_the_sandbox_gives_for_a_name_that_cannot_exist() -> None:
    reply = Sandbox(Dataset()).respond(
        METHOD, protocol.encode_request(Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.QUEUE], TODAY), KEY)
    )
    assert isinstance(protocol.parse_response(reply.status, reply.body), ApiError)
