"""The planner's types: what a sync should do, what is stored, what is planned. All frozen."""

from bisect import bisect_left
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum
from typing import NamedTuple

from etl.extract.planner.members import KNOWN_QUEUES, Members
from etl.models import (
    DAY,
    SPLIT_DIMENSIONS,
    ActivePeriod,
    DayState,
    Dimension,
    Measures,
    MemberStatus,
    SeriesKey,
    Snapshot,
    UnknownNameBehaviour,
    Window,
    day_start,
)

EARLIEST_DAY = date(2005, 1, 1)
"""The search for the first day of history ends here, before the service existed."""

NO_SPEND_FACTOR = 10
"""Until any spend is found, the search covers this many times ``empty_days``."""


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What a sync should do. ``since`` and ``until`` are inclusive; without ``since``, to the first day of history.

    ``configured`` are members listed by the user, ``requested_by_user`` those of them on the command line, ``trusted``
    those that exist although they only ever return the total. ``spot_checks`` is the number of final days that are read
    again, chosen at random by ``seed``.
    """

    account: str
    today: date
    since: date | None = None
    until: date | None = None
    lookback: int = 3
    empty_days: int = 90
    configured: tuple[SeriesKey, ...] = ()
    trusted: tuple[SeriesKey, ...] = ()
    requested_by_user: frozenset[SeriesKey] = frozenset()
    known_queues: tuple[str, ...] = KNOWN_QUEUES
    totals_only: bool = False
    concurrency: int = 4
    max_requests: int | None = None
    spot_checks: int = 0
    seed: str = ""

    @property
    def end_day(self) -> date:
        """The newest day to request."""
        return min(self.until or self.today, self.today)

    @property
    def max_open_days(self) -> int:
        """Maximum days in progress: enough to read older totals while a newer day discovers queues."""
        return 4 * self.concurrency

    def requests_members_of(self, day: date) -> bool:
        """True if members may be requested for a stored day."""
        return not self.totals_only and (self.since or EARLIEST_DAY) <= day <= self.end_day

    def is_in_lookback(self, day: date) -> bool:
        """True if each sync reads the day again: today and the lookback before it."""
        return day >= self.today - timedelta(days=self.lookback)

    def finalizes_at(self, day: date) -> datetime:
        """A day that is read at or after this moment is final."""
        return day_start(day) + DAY * (1 + self.lookback)


@dataclass(frozen=True, slots=True)
class StoredState:
    """What the warehouse knows of an account: requested ``days``, ``final`` ones among them, and members.

    Days ``without_raw`` stay as they are: their raw responses were deleted. ``spot_checks`` are final days whose totals
    are read again, ``rechecks`` those that an interrupted run has found changed, and their neighbours.
    """

    days: Mapping[date, DayState] = field(default_factory=dict)
    final: frozenset[date] = frozenset()
    without_raw: frozenset[date] = frozenset()
    spot_checks: frozenset[date] = frozenset()
    rechecks: frozenset[date] = frozenset()
    active_periods: Mapping[SeriesKey, tuple[ActivePeriod, ...]] = field(default_factory=dict)
    last_spend: Mapping[SeriesKey, Measures] = field(default_factory=dict)
    member_statuses: Mapping[SeriesKey, MemberStatus] = field(default_factory=dict)
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = field(default_factory=dict)


# ---------------------------------------------------------------- steps


class StopReason(Enum):
    """Why the planner is done."""

    DONE = "everything requested is stored"
    LIMIT = "--max-requests is reached with windows left"
    ACCOUNT_REJECTED = "the API refused the account"
    TOO_MANY_FAILURES = "too many windows in a row failed"


@dataclass(frozen=True, slots=True)
class Request:
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to request before the next response."""


@dataclass(frozen=True, slots=True)
class Done:
    stop_reason: StopReason


Step = Request | Wait | Done


# ---------------------------------------------------------------- plans


@dataclass(frozen=True, slots=True)
class DayPlan:
    """A day in progress.

    * ``stale``: series to request, whatever the day's state.
    * ``done_series``: series that are not requested again in this run.
    * ``sent``: all windows requested so far; ``in_flight``: those without a response.
    * ``rechecked_windows``: windows sent a second time, because they came back empty although spend is stored, or
      without ``data`` near spend.
    * ``rechecked_dimensions``: dimensions requested a second time, because they exceeded the total.
    * ``discovered``: number of requests for queues without recent activity.
    * ``lacks_data``: the last total came without ``data``, and may be requested once more.
    """

    day: date
    day_state: DayState
    needs_total: bool
    stale: frozenset[SeriesKey] = frozenset()
    done_series: frozenset[SeriesKey] = frozenset()
    sent: frozenset[Window] = frozenset()
    in_flight: frozenset[Window] = frozenset()
    rechecked_windows: frozenset[Window] = frozenset()
    rechecked_dimensions: frozenset[Dimension] = frozenset()
    discovered: int = 0
    lacks_data: bool = False

    @property
    def can_request_members(self) -> bool:
        """True if the day has a current total with spend."""
        return self.day_state.has_spend and self.day_state.total_requested_at is not None and not self.needs_total

    @property
    def may_discover(self) -> bool:
        """True if the day discovers queues or may still do so."""
        return self.needs_total or self.day_state.is_closed


class DayRequests(NamedTuple):
    """The windows a day needs now. Empty: it waits for a response."""

    windows: tuple[Window, ...] = ()
    is_discovering: bool = False


@dataclass(frozen=True, slots=True)
class PlannerState:
    """Everything the planner knows.

    * ``first_day``: first day of the known range; ``pending``: its days that need a visit, newest first;
      ``pending_opened``: how many of them were opened.
    * ``failed_probes``: dimensions for which a name that cannot exist showed nothing in this run.
    * ``uncertain``: dimensions for which a name that cannot exist is requested again, because a name without spend was
      refused in another way or got the total; once more in a run, until ``Members.settled`` has them.
    * ``stored``: the days as they were stored when the run began.
    * ``final``: days that were final then; ``spot_checks``: final days whose members are requested only if their total
      has changed; ``rechecks``: final days that are read like days that are not final.
    * ``days_without_raw``: days whose members would be requested if their raw responses were stored.
    * ``next_older_day``: the next day before the known range; None if nothing older is wanted.
    * ``oldest_spend``: oldest day with spend or a failed total; the search goes on ``empty_days`` beyond it.
    * ``open_days``: days in progress, newest first; ``due``: those with windows to send, or None if something has
      changed and the day has to be looked at again. A decision looks at no other open day.
    * ``last_explained``: the closed day with spend that was last completed with all of it explained.
    * ``completed_days``: days that the last call finished.
    * ``same_error_streak``: code and number of windows in a row that failed with it; ``failure_streak``: with any code.
    """

    options: SyncOptions
    members: Members
    first_day: date
    days_without_raw: int
    pending: tuple[date, ...]
    stored: Mapping[date, DayState]
    next_older_day: date | None
    oldest_spend: date | None
    has_total: bool
    final: frozenset[date] = frozenset()
    spot_checks: frozenset[date] = frozenset()
    rechecks: frozenset[date] = frozenset()
    pending_opened: int = 0
    open_days: Mapping[date, DayPlan] = field(default_factory=dict)
    due: Mapping[date, DayRequests | None] = field(default_factory=dict)
    probe: Window | None = None
    failed_probes: frozenset[Dimension] = frozenset()
    uncertain: frozenset[Dimension] = frozenset()
    discovery_found_nothing: bool = False
    last_explained: DayState | None = None
    completed_days: tuple[date, ...] = ()
    requests_sent: int = 0
    retries: int = 0
    same_error_streak: tuple[str, int] = ("", 0)
    failure_streak: int = 0
    stopped_by: Snapshot | None = None
    stop_reason: StopReason | None = None

    @property
    def has_in_flight(self) -> bool:
        return self.probe is not None or any(plan.in_flight for plan in self.open_days.values())

    @property
    def unprobed_dimensions(self) -> list[Dimension]:
        """Dimensions to request for which the API's answer to unknown names is not known yet."""
        if self.options.totals_only:
            return []
        probed = self.members.unknown_name_behaviours.keys() | self.failed_probes
        return [one for one in SPLIT_DIMENSIONS if self.members.candidates[one] and one not in probed]

    @property
    def reprobes_due(self) -> frozenset[Dimension]:
        """Dimensions for which the API may now answer unknown names in another way than is remembered."""
        return self.uncertain - self.members.settled - self.failed_probes

    @property
    def probes_due(self) -> list[Dimension]:
        """``unprobed_dimensions`` and uncertain ones, once a day with spend is open."""
        unprobed = [*self.unprobed_dimensions, *sorted(self.reprobes_due)]
        return unprobed if unprobed and any(plan.can_request_members for plan in self.open_days.values()) else []

    @property
    def pending_count(self) -> int:
        """Days of the known range that were not opened yet."""
        return len(self.pending) - self.pending_opened

    def is_pending(self, day: date) -> bool:
        """True if a day of the known range will be opened later."""
        place = bisect_left(self.pending, -day.toordinal(), self.pending_opened, key=lambda one: -one.toordinal())
        return self.pending[place : place + 1] == (day,)

    @property
    def days_left(self) -> int:
        """Days not finished; at least that many while the first day of history is unknown."""
        return len(self.open_days) + self.pending_count + (not self.pending_count and self.next_day is not None)

    @property
    def oldest_wanted_day(self) -> date:
        """Where the search for the first day of history ends, as far as is known now."""
        if self.oldest_spend is None:
            return self.options.end_day - timedelta(days=self.options.empty_days * NO_SPEND_FACTOR - 1)
        return self.oldest_spend - timedelta(days=self.options.empty_days)

    @property
    def next_day(self) -> date | None:
        """The next day to visit: of the known range first, then older days."""
        if self.pending_opened < len(self.pending):
            return self.pending[self.pending_opened]
        older = self.next_older_day
        if older is None or older < max(EARLIEST_DAY, self.oldest_wanted_day):
            return None
        return older

    @property
    def last_day(self) -> date | None:
        """The oldest open day, if no older one will be opened."""
        return min(self.open_days, default=None) if self.next_day is None else None

    @property
    def days_without_spend(self) -> int:
        """Days that were searched beyond the oldest spend."""
        if self.next_older_day is None:
            return 0
        oldest = self.oldest_spend or self.options.end_day + timedelta(days=1)
        return (oldest - self.next_older_day).days - 1

    @property
    def found_no_spend(self) -> bool:
        """True if the search for the first day of history ended without any spend."""
        return self.oldest_spend is None and self.options.since is None
