"""Repeated syncs against a sandbox with any behaviour that the API documentation leaves open.

After every sync, even a killed one: each hour of each dimension adds up exactly to the last returned total; no queue, app
or address has spend that is not its own; unverified and excluded names have none; an over-allocated hour is all
unattributed.
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
from etl.transform.reconcile import ReconciledDay
from tests.core import fact_values, records_of, written_facts
from tests.property.simulated_account import SimulatedAccount

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
"""Names that users list, including misspelt queues and apps and addresses of others."""
KEY = Secret("a-key-for-the-sandbox")
NINE_PLACES = Decimal("1e-9")
MAX_DELAY = timedelta(seconds=30)
"""The API takes its data at most this long after it received a request."""

FAILING_FAULTS = (
    FaultKind.UNKNOWN_CODE, FaultKind.NO_SLOT, FaultKind.HTML, FaultKind.HTML_500, FaultKind.HTML_503, FaultKind.RETRY_AFTER,
    FaultKind.REDIRECT, FaultKind.EMPTY, FaultKind.TRUNCATED, FaultKind.RESET, FaultKind.NAN, FaultKind.NEGATIVE_VOLUME,
    FaultKind.VENDOR_PAGE, FaultKind.VENDOR_EXAMPLE,
)  # fmt: skip
ACCOUNT_FAULTS = (FaultKind.IP_BLOCKED, FaultKind.ZERO_BALANCE)
WRONG_DATA_FAULTS = (FaultKind.NEGATIVE, FaultKind.NULL_DATA, FaultKind.NO_DATA)
"""Successful responses that are wrong. Not used for names that do not exist: those are only recognised because they never
differ from the total."""
UNUSABLE_RECORD_FAULTS = (FaultKind.NAN, FaultKind.NEGATIVE_VOLUME)
"""They make one record unusable; if a second record of the hour remains, the response is successful and wrong too."""


class ReturnedHours(NamedTuple):
    """What the sandbox returned for one snapshot, the time of its data, and the fault, if any."""

    at: datetime
    hours: dict[datetime, Measures]
    fault: FaultKind | None


@dataclass(frozen=True)
class SyncStep:
    """One sync and the pause before it. ``slow``: maximum seconds between two responses. ``failure``: percentage of failing
    responses."""

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


class SimulatedApi(SimulatedAccount):
    """A sandbox, and the facts of a warehouse that is updated only by the changes of every commit."""

    def __init__(self, dataset: Dataset, behaviour: Behaviour, now: datetime, seed: int) -> None:
        super().__init__(now, random.Random(seed))
        self.sandbox = Sandbox(dataset, behaviour, now=lambda: self.decides_at)
        self.decides_at = now
        self.night = SyncStep()
        self.responses: dict[int, ReturnedHours] = {}
        self.facts: dict[date, dict[tuple[SeriesKey, datetime], Fact]] = {}
        self.log: list[str] = []
        self.has_wrong_values = False

    def play(self, night: SyncStep) -> StopReason | None:
        self.now += night.hours_before * HOUR
        self.night = night
        self.log.append(f"--- {self.now} {night}")
        return self.sync(night.options(self.now.date()), night.kill_after)

    def pause(self) -> timedelta:
        return timedelta(seconds=self.random.choice([1, 1, 1, self.night.slow]) * self.random.random() + 0.001)

    def commit(self, day: date, reconciled: ReconciledDay) -> None:
        facts = self.facts.setdefault(day, {})
        stored_facts = fact_values(facts.values(), reconciled.inputs.first_hour_start)
        for fact in written_facts(replace(reconciled, stored_facts=stored_facts), reconciled):
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

    def unverified_names(self) -> set[SeriesKey]:
        """Return the names whose responses always equalled the total."""
        return {
            series for series, member_status in self.member_statuses.items() if member_status is MemberStatus.UNVERIFIED
        }

    # -- requests

    def read(self, window: Window, requested_at: datetime) -> Snapshot:
        self.decides_at = requested_at + min(self.now - requested_at, MAX_DELAY) * self.random.random()
        kind = self._random_fault(window)
        self.sandbox.faults = (Fault(kind),) if kind else ()
        reply = self.sandbox.respond(METHOD, protocol.encode_request(window, KEY))
        body = reply.body[: len(reply.body) // 2] if kind is FaultKind.TRUNCATED else reply.body
        raw_response = Response(window, requested_at, protocol.parse_response(reply.status, body), reply.status, body)
        if kind is FaultKind.RESET:
            raw_response = Response(window, requested_at, TransportError("reset", "for a test"))
        snapshot = parse.parse_snapshot(raw_response, self.number, self.hour_offset)
        has_records = snapshot.outcome in (Outcome.SUCCESS, Outcome.PARTIAL)
        self.responses[self.number] = ReturnedHours(self.decides_at, _hours(body) if has_records else {}, kind)
        tasks = [record.volume for record in records_of(snapshot)]
        summary = f"{snapshot.number}: {snapshot.outcome} {snapshot.code}, {len(tasks)} hours, {sum(tasks)} tasks"
        self.log.append(f"{requested_at:%d %H:%M:%S} {self.decides_at:%d %H:%M:%S} {window}: {summary} {kind or ''}")
        return snapshot

    def _random_fault(self, window: Window) -> FaultKind | None:
        if self.random.random() * 100 >= self.night.failure:
            return None
        is_unknown = not self.exists(window.series)
        wrong_kinds = {
            *WRONG_DATA_FAULTS,
            *(UNUSABLE_RECORD_FAULTS if self.sandbox.behaviour.duplicates == "differing" else ()),
        }
        kinds = [kind for kind in (*FAILING_FAULTS, *WRONG_DATA_FAULTS) if not (is_unknown and kind in wrong_kinds)] + [
            *ACCOUNT_FAULTS
        ] * self.night.fatal
        if window.series in NONEXISTENT_MEMBERS.values():
            kinds.remove(FaultKind.UNKNOWN_CODE)  # looks exactly like the API's own error for an unknown name
        kind: FaultKind = self.random.choice(kinds)
        self.has_wrong_values = self.has_wrong_values or kind in wrong_kinds
        return kind

    # -- what must be true

    def own(self, series: SeriesKey, hour: datetime, at: datetime) -> Measures:
        """Return the API's own value of an hour of an existing member at a given time."""
        shift = timedelta(seconds=self.sandbox.behaviour.grid_seconds)
        kind = {Dimension.QUEUE: "queue", Dimension.APP: "soft_id", Dimension.IP: "ip"}.get(series.dimension)
        member = int(series.member or 0) if series.dimension is Dimension.APP else series.member
        as_of = int(at.timestamp()) - self.sandbox.behaviour.grid_seconds
        narrowed = {kind: member} if kind else {}
        stored_facts = hour - shift
        hours = self.sandbox.dataset.day((stored_facts.date() - EPOCH).days, as_of, **narrowed)  # type: ignore[arg-type]  # one of three
        return Measures(*hours[stored_facts.hour])

    def check(self) -> None:
        for day in self.snapshots_by_day:
            self._check_totals(day)
            self._check_sums(day)
            self._check_members(day)
            self._check_over_allocation(day)

    def _check_totals(self, day: date) -> None:
        """Assert that each hour's total is the last returned one."""
        returned: dict[datetime, set[Measures]] = {}
        totals = [snapshot for snapshot in self.snapshots_by_day[day].snapshots if snapshot.window.series == TOTAL]
        for snapshot in sorted(totals, key=lambda snapshot: (snapshot.requested_at, snapshot.number)):
            response = self.responses[snapshot.number]
            if snapshot.outcome is Outcome.PARTIAL or snapshot.is_success:
                for hour in self._own_hours(day):
                    if (value := _certain_value(response, snapshot, hour)) is not None:
                        returned[hour] = {value}
                    elif hour not in response.hours and not _is_rejected(snapshot, hour):
                        returned[hour] = returned.get(hour, set()) | {ZERO_MEASURES}  # may count as zero, but need not
        stored = {
            hour: Measures(fact.volume, fact.money)
            for (series, hour), fact in self.facts[day].items()
            if series == TOTAL
        }
        for hour, values in returned.items():
            assert hour in stored or values == {ZERO_MEASURES}, f"{day}: the total of {hour} is missing"
        for hour, value in stored.items():
            assert value in returned.get(hour, {ZERO_MEASURES}), (
                f"{day}: the total of {hour} is {value}, the API returned {returned.get(hour)}"
            )

    def _own_hours(self, day: date) -> list[datetime]:
        return [day_start(day) + timedelta(seconds=self.hour_offset or 0) + n * HOUR for n in range(24)]

    def _check_sums(self, day: date) -> None:
        """Assert that the members and the unattributed amount of each dimension add up to the total in every hour."""
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
                assert summed == total, f"{day}: {dimension} of {hour} adds up to {summed}, not {total}"

    def _check_members(self, day: date) -> None:
        """Assert that members with facts exist, are verified, and spent exactly that when they were read."""
        for (series, hour), fact in self.facts[day].items():
            if series.dimension is Dimension.TOTAL or series.is_unattributed:
                continue
            assert self.exists(series), f"{day}: {series}, which does not exist, has money in {hour}"
            member_status = self.member_statuses.get(series)
            is_unverified = self.state.members.needs_verification(series.dimension) and member_status in (
                None,
                MemberStatus.UNVERIFIED,
            )
            assert not is_unverified, f"{day}: {series} is {member_status} and has money in {hour}"
            assert member_status is not MemberStatus.EXCLUDED, (
                f"{day}: {series} is {member_status} and has money in {hour}"
            )
            response = self.responses[fact.snapshot]
            own = response.hours.get(hour) if response.fault else self.own(series, hour, response.at)
            assert (fact.volume, fact.money) == own, f"{day}: {series} has {fact}, expected {own}"

    def _check_over_allocation(self, day: date) -> None:
        """Assert that an over-allocated hour only has an unattributed row, and that no other hour is over-allocated."""
        facts, reconciled = self.facts[day], self.reconciled_days[day]
        for unattributed, hour, *_ in reconciled.over_allocations:
            of_hour = [
                fact
                for fact in facts.values()
                if fact.series.dimension is unattributed.dimension and fact.hour_start == hour
            ]
            assert {fact.series for fact in of_hour} <= {unattributed}, (
                f"{day}: {hour} is over-allocated and has members"
            )
        members = [
            fact
            for fact in facts.values()
            if fact.series.dimension in SPLIT_DIMENSIONS and not fact.series.is_unattributed
        ]
        for dimension, hour in {(fact.series.dimension, fact.hour_start) for fact in members}:
            count = sum(fact.series.dimension is dimension and fact.hour_start == hour for fact in members)
            unattributed_fact = facts.get((SeriesKey(dimension, None), hour))
            if unattributed_fact is not None and (
                unattributed_fact.volume or abs(unattributed_fact.money) > ROUNDING_TOLERANCE * (count + 1)
            ):
                assert unattributed_fact.volume >= 0, f"{day}: {dimension} exceeds the total in {hour}"
                assert unattributed_fact.money >= -ROUNDING_TOLERANCE * (count + 1), (
                    f"{day}: {dimension} exceeds the total in {hour}"
                )

    def __repr__(self) -> str:
        return "\n".join([repr(self.sandbox.behaviour), repr(self.sandbox.dataset), *self.log])


def _hours(body: bytes) -> dict[datetime, Measures]:
    """Parse the hours of a response without the program's parser; of two records of an hour the larger wins."""
    data = json.loads(body, parse_float=Decimal).get("data") or []
    hours: dict[datetime, Measures] = {}
    for record in data.values() if isinstance(data, dict) else data:
        money = Decimal(record["money"]).quantize(NINE_PLACES, ROUND_HALF_EVEN)
        hour, value = datetime.fromtimestamp(record["dateFrom"], UTC), Measures(int(record["volume"]), money)
        if value.volume >= 0 and money.is_finite():
            hours[hour] = max(value, hours.get(hour, value))
    return hours


def _certain_value(response: ReturnedHours, snapshot: Snapshot, hour: datetime) -> Measures | None:
    """Return the value that the response of a total certainly has for an hour, or None."""
    if hour in response.hours:
        return response.hours[hour] if hour <= snapshot.requested_at else None
    own = [record.hour_start for record in records_of(snapshot)]
    is_inside = bool(own) and own[0] < hour < own[-1]
    return ZERO_MEASURES if is_inside and not _is_rejected(snapshot, hour) else None


def _is_rejected(snapshot: Snapshot, hour: datetime) -> bool:
    return any(rejection.hour_start in (None, hour) for rejection in snapshot.rejections)


# ---------------------------------------------------------------- any account, any syncs


@st.composite
def accounts(draw: st.DrawFn) -> SimulatedApi:
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
    return SimulatedApi(dataset, behaviour, now, draw(st.integers(0, 10**6)))


sync_steps = st.builds(
    SyncStep,
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

step_lists = st.lists(sync_steps, min_size=1, max_size=5)
undisturbed_steps = st.builds(
    SyncStep,
    hours_before=st.just(0),
    configured=st.sampled_from([(), LISTED]),
    lookback=st.integers(0, 3),
    concurrency=st.integers(1, 6),
)
without_deadline = settings(deadline=None, suppress_health_check=list(HealthCheck))


def play(world: SimulatedApi, steps: Iterable[SyncStep]) -> None:
    """Run the syncs and check the account after each; an error shows the behaviour and all requests and responses."""
    try:
        for night in steps:
            stop_reason = world.play(night)
            assert stop_reason is not StopReason.LIMIT or night.max_requests is not None
            world.check()
            if stop_reason is StopReason.DONE:
                check_explained(world, night)
    except AssertionError as error:
        raise AssertionError(f"{error}\n{world}") from error


def check_explained(world: SimulatedApi, night: SyncStep) -> None:
    """Assert that closed days are explained after a sync without failures, if all names are known and verified."""
    options, dataset = world.state.options, world.sandbox.dataset
    member_statuses = [world.member_statuses.get(queue(name)) for name in dataset.names]
    has_unverified = any(series.dimension is Dimension.QUEUE for series in world.unverified_names())
    has_unrequested = any(
        member_status is not None and not member_status.is_requested for member_status in member_statuses
    )
    is_known = {*map(queue, dataset.names)} <= {*map(queue, options.known_queues), *options.configured}
    deletes_days = world.sandbox.behaviour.retention_days is not None
    if (
        night.failure
        or not is_known
        or has_unverified
        or has_unrequested
        or world.has_wrong_values
        or dataset.corrections
        or deletes_days
    ):
        return
    for day in world.snapshots_by_day:
        day_state = world.reconciled_days[day].day_state
        if day <= options.end_day:
            assert day_state.is_explained or not day_state.is_closed, f"{day} is not explained: {day_state}"


@settings(without_deadline, max_examples=100)
@given(accounts(), step_lists)
def test_every_hour_adds_up_to_its_total_and_every_member_has_only_its_own_spend(
    world: SimulatedApi, steps: list[SyncStep]
) -> None:
    play(world, steps)


@pytest.mark.parametrize("seed", [28, 30, 31, 34])
def test_apps_and_ips_do_not_wait_for_outstanding_hours_of_another_one(seed: int) -> None:
    dataset = Dataset(
        seed=0,
        begins=TODAY - timedelta(days=5),
        queues=NAMES[:2],
        idle_hours=0,
        idle_weeks=0,
        turnover=False,
        corrections=False,
        apps=(),
        ips=(),
        unlisted=0,
    )
    world = SimulatedApi(
        dataset, Behaviour(buckets=23, running=False, foreign_app="zeros"), datetime(2026, 11, 22, tzinfo=UTC), seed
    )
    listed = (app("1011"), app("1022"), ip("192.0.2.10"))
    play(world, [SyncStep(0, concurrency=1), SyncStep(0, configured=listed, concurrency=3)])


@pytest.mark.long
@settings(without_deadline, max_examples=1_500)
@given(accounts(), step_lists)
def test_every_hour_adds_up_to_its_total_in_many_more_examples(world: SimulatedApi, steps: list[SyncStep]) -> None:
    play(world, steps)


@settings(without_deadline, max_examples=40)
@given(accounts(), undisturbed_steps)
def test_an_immediate_second_sync_requests_only_totals_that_can_change_and_changes_nothing(
    world: SimulatedApi, night: SyncStep
) -> None:
    world.sandbox.dataset = replace(world.sandbox.dataset, corrections=False)
    play(world, [night])
    if world.unverified_names() or world.sandbox.behaviour.retention_days:  # are requested again; the API deletes days
        return
    growing = {day for day in world.snapshots_by_day if not world.reconciled_days[day].day_state.is_closed}
    before = {day: dict(facts) for day, facts in world.facts.items() if day not in growing}
    play(world, [replace(night, hours_before=0)])
    options = world.state.options
    requested = [window for window in world.requested if window.day not in growing and window.day != options.today]
    try:
        assert all(window.series == TOTAL and options.is_in_lookback(window.day) for window in requested), [
            str(window) for window in requested
        ]
        assert {day: facts for day, facts in world.facts.items() if day in before} == before
    except AssertionError as error:
        raise AssertionError(f"{error}\n{world}") from error


def test_the_sandbox_returns_an_error_for_a_name_that_cannot_exist() -> None:
    reply = Sandbox(Dataset()).respond(
        METHOD, protocol.encode_request(Window.whole_day("default", NONEXISTENT_MEMBERS[Dimension.QUEUE], TODAY), KEY)
    )
    assert isinstance(protocol.parse_response(reply.status, reply.body), ApiError)
