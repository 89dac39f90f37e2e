"""A scripted API and a sync without threads, clock, database or HTTP, to see which windows the planner requests.

Requests are written as labels: days ago, then ``*`` for the total or the queue's name, then ``@hour`` if the window
starts later than the day. An app is written ``#7``, an IP ``@192.0.2.1``, and a name that cannot exist ``?``.
"""

import random
from collections.abc import Mapping, Set
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from etl.extract import planner
from etl.extract.planner import NONEXISTENT_MEMBERS, Done, Request, StopReason, StoredState, SyncOptions, Wait
from etl.models import (
    HOUR,
    TOTAL,
    DayState,
    Dimension,
    ErrorScope,
    MemberStatus,
    Outcome,
    Record,
    SeriesKey,
    Snapshot,
    Window,
    day_start,
)
from etl.transform.reconcile import DaySnapshots, reconcile
from tests.core import hour_values

TODAY = date(2026, 11, 22)
NOW = datetime(2026, 11, 22, 9, 30, tzinfo=UTC)

MAX_STEPS = 100_000
"""More than any run here takes, so that an endless one fails."""

Spend = Mapping[int, int]
"""Tasks by hour of the day. A task costs $0.001, unless the service has another price for its queue."""

SIX_DAYS = {(n, "A"): {8: 10, 9: 5} for n in range(6)}
"""Spend of queue A, today and on the five days before."""


def ago(days: int) -> date:
    return TODAY - timedelta(days=days)


def member_label(series: SeriesKey) -> str | None:
    prefixes = {Dimension.APP: "#", Dimension.IP: "@"}
    return None if series.member is None else prefixes.get(series.dimension, "") + series.member


SERIES_LABELS = {TOTAL: "*", **dict(zip(NONEXISTENT_MEMBERS.values(), ("?", "#?", "@?"), strict=True))}


def label(window: Window) -> str:
    hour = "" if window.start == day_start(window.day) else f"@{window.start.hour}"
    series = SERIES_LABELS.get(window.series, member_label(window.series))
    return f"{(TODAY - window.day).days}{series}{hour}"


class Service:
    """An API with scripted spend, by (days ago, member label). A total is the sum of its queues.

    What apps and IPs spend is part of the queues' spend. ``unknown_queue`` and ``unknown_member`` (an app or an IP)
    say what an unknown name gets: "error", "zeros" or "totals". ``errors`` are the code and scope by (days ago, member
    label, or None for the total).
    """

    def __init__(
        self,
        spend: Mapping[tuple[int, str], Spend],
        unknown_queue: str = "error",
        unknown_member: str = "zeros",
    ) -> None:
        self.spend = dict(spend)
        self.unknown_queue = unknown_queue
        self.unknown_member = unknown_member
        self.errors: dict[tuple[int, str | None], tuple[str, ErrorScope | None]] = {}
        self.prices: dict[str, int] = {}
        self.extra_total: dict[tuple[int, int], int] = {}
        """Tasks that a total has in addition to its queues, by (days ago, hour)."""
        self.last_hour: dict[tuple[int, str | None], int] = {}
        """Where a response for a whole day ends, by (days ago, member label)."""
        self.without_data: dict[tuple[int, str | None], int] = {}
        """How many responses for a day come without ``data`` first, by (days ago, member label)."""

    def queues(self) -> set[str]:
        return {name for _, name in self.spend if name[0] not in "#@"}

    def tasks(self, days_ago: int, name: str | None, hour: int) -> int:
        if name is None:
            total = sum(self.tasks(days_ago, one, hour) for one in self.queues())
            return total + self.extra_total.get((days_ago, hour), 0)
        return self.spend.get((days_ago, name), {}).get(hour, 0)

    def money(self, days_ago: int, name: str | None, hour: int) -> Decimal:
        if name is None:
            extra = Decimal(self.extra_total.get((days_ago, hour), 0)) / 1000
            return extra + sum((self.money(days_ago, one, hour) for one in self.queues()), Decimal(0))
        return Decimal(self.tasks(days_ago, name, hour) * self.prices.get(name, 1)) / 1000

    def respond(self, window: Window, number: int, requested_at: datetime) -> Snapshot:
        days_ago, name = (TODAY - window.day).days, member_label(window.series)
        snapshot = Snapshot(number, window, requested_at, Outcome.SUCCESS)
        if (days_ago, name) in self.errors:
            code, scope = self.errors[days_ago, name]
            return replace(
                snapshot, outcome=Outcome.API_ERROR if scope else Outcome.FAILED, code=code, error_scope=scope
            )
        if self.without_data.get((days_ago, name), 0):
            self.without_data[days_ago, name] -= 1
            return replace(snapshot, lacks_data=True)
        if name is not None and name not in self.queues() and name not in {one for _, one in self.spend}:
            behaviour, code, scope = self.unknown_queue, "ERROR_QUEUE", ErrorScope.WINDOW
            if name[0] in "#@":
                behaviour, code, scope = self.unknown_member, "ERROR_ACCESS_DENIED", ErrorScope.SERIES
            if behaviour == "error":
                return replace(snapshot, outcome=Outcome.API_ERROR, code=code, error_scope=scope)
            name = None if behaviour == "totals" else name
        midnight = day_start(window.day)
        first = (window.start - midnight) // HOUR
        last = self.last_hour.get((days_ago, name), 23) if first == 0 else 23
        hours = [n for n in range(first, last + 1) if midnight + n * HOUR <= requested_at]
        records = (
            Record(midnight + n * HOUR, self.tasks(days_ago, name, n), self.money(days_ago, name, n)) for n in hours
        )
        return replace(snapshot, values=hour_values(records, window.day))


class SimulatedSync:
    """Runs the planner against a service, one response at a time, and records what was requested.

    It goes on from what ``after`` stored, except the days in ``without_days``. Responses arrive in the order of their
    requests, or in that which ``order`` chooses.
    """

    def __init__(
        self,
        options: SyncOptions,
        service: Service,
        after: "SimulatedSync | None" = None,
        now: datetime = NOW,
        without_days: Set[date] = frozenset(),
        order: random.Random | None = None,
    ) -> None:
        self.order = order
        self.days: dict[date, DaySnapshots] = {}
        if after is not None:
            self.days = {day: snapshots for day, snapshots in after.days.items() if day not in without_days}
            now = max(now, after.now)
        self.now: datetime = now + timedelta(minutes=20)
        self.state = planner.start(options, StoredState() if after is None else after.stored(without_days))
        self.service = service
        self.sent: list[Window] = []
        self.in_flight: list[Window] = []
        self.snapshot_number = sum(len(day_snapshots.snapshots) for day_snapshots in self.days.values())

    def run(self) -> StopReason:
        concurrency = self.state.options.concurrency
        for _ in range(MAX_STEPS):
            self.state, step = planner.next_windows(self.state, concurrency - len(self.in_flight))
            if isinstance(step, Done):
                assert not self.in_flight
                return step.stop_reason
            if isinstance(step, Request):
                self.sent += step.windows
                self.in_flight += step.windows
                if len(self.in_flight) < concurrency:
                    continue
            else:
                assert isinstance(step, Wait)
            assert self.in_flight, "the planner waits for a response without a request"
            self.receive(self.in_flight.pop(self.order.randrange(len(self.in_flight)) if self.order else 0))
        raise AssertionError("the run does not end")

    def receive(self, window: Window) -> None:
        self.snapshot_number += 1
        self.now += timedelta(milliseconds=1)
        snapshot = self.service.respond(window, self.snapshot_number, self.now)
        day_snapshots = self.days.get(window.day, DaySnapshots(window.day))
        self.state = planner.classify_name(self.state, snapshot, reconcile(day_snapshots).day_state)
        day_snapshots = self.days[window.day] = self.with_member_statuses(day_snapshots.with_snapshots([snapshot]))
        self.state = planner.apply_snapshot(self.state, snapshot, reconcile(day_snapshots).day_state)
        for day, other in self.days.items():
            updated = self.with_member_statuses(other)
            if updated != other:
                self.days[day] = updated
                self.state = planner.apply_reconciled_day(self.state, reconcile(updated).day_state)

    def with_member_statuses(self, day_snapshots: DaySnapshots) -> DaySnapshots:
        """The day with the members that are now excluded, unverified or retired."""
        members = self.state.members

        def having(status: MemberStatus) -> set[SeriesKey]:
            return {series for series, one in members.member_statuses.items() if one is status}

        requested = {snapshot.window.series for snapshot in day_snapshots.snapshots} - {TOTAL}
        loaded = having(MemberStatus.VERIFIED) | having(MemberStatus.RETIRED)
        return replace(
            day_snapshots,
            ignored=frozenset(having(MemberStatus.EXCLUDED) | {*NONEXISTENT_MEMBERS.values()}),
            unverified=frozenset(one for one in requested - loaded if members.needs_verification(one.dimension)),
            retired=frozenset(having(MemberStatus.RETIRED)),
        )

    @property
    def day_states(self) -> dict[date, DayState]:
        return {day: reconcile(day_snapshots).day_state for day, day_snapshots in self.days.items()}

    @property
    def requested(self) -> list[str]:
        """Labels of all requests, in order."""
        return [label(window) for window in self.sent]

    def requested_on(self, *days_ago: int) -> list[str]:
        return [label(window) for window in self.sent if (TODAY - window.day).days in days_ago]

    def requested_containing(self, text: str) -> list[str]:
        """Labels with a text: ``#`` finds apps, ``#7`` one of them."""
        return [one for one in self.requested if text in one]

    @property
    def oldest_requested(self) -> int:
        """Days from today back to the oldest requested day."""
        return max((TODAY - window.day).days for window in self.sent)

    def stored(self, without_days: Set[date] = frozenset()) -> StoredState:
        """What the warehouse has after this run."""
        options, members = self.state.options, self.state.members
        day_states = {day: day_state for day, day_state in self.day_states.items() if day not in without_days}
        final = {
            day
            for day, day_state in day_states.items()
            if day not in self.state.open_days
            and not day_state.is_failed
            and day_state.read_since(options.finalizes_at(day))
        }
        return StoredState(
            last_spend=self.state.members.last_spend,
            days=day_states,
            final=frozenset(final),
            active_periods=members.active_periods,
            member_statuses=members.member_statuses,
            unknown_name_behaviours=members.unknown_name_behaviours,
        )


def sync_options(**changes: object) -> SyncOptions:
    options = SyncOptions("default", TODAY, empty_days=3, known_queues=("A", "B", "C"), concurrency=1)
    return replace(options, **changes)  # type: ignore[arg-type]  # a test names any option


def sync(
    service: Service,
    after: SimulatedSync | None = None,
    now: datetime = NOW,
    without_days: Set[date] = frozenset(),
    **changes: object,
) -> SimulatedSync:
    """A run to its end, with these options changed."""
    run = SimulatedSync(sync_options(**changes), service, after, now, without_days)
    assert run.run() is StopReason.DONE
    return run
