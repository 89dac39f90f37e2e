"""The words of the walk: what it is given, what it answers, what it remembers. All frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum

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
"""No day before this is searched for the start of history: it is older than the service."""

NO_SPEND_FACTOR = 10
"""Until any spend is known, history is searched for so many times ``empty_days``."""


# ---------------------------------------------------------------- what it is given


@dataclass(frozen=True, slots=True)
class SyncOptions:
    """What this run was asked for. ``since`` and ``until`` are inclusive; a ``since`` of None: until the start of
    history.

    ``named`` are the queues, apps and addresses that the user listed, ``by_hand`` those of them on the command line,
    ``trusted`` those that exist though they only ever answer with the total.
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

    @property
    def end_day(self) -> date:
        """The day the walk begins with."""
        return min(self.until or self.today, self.today)

    def requests_members_of(self, day: date) -> bool:
        """Whether names may be asked of a day that is held."""
        return not self.totals_only and (self.since or EARLIEST_DAY) <= day <= self.end_day

    @property
    def max_open_days(self) -> int:
        """Days in progress at most: enough to read totals further back while a newer day hunts."""
        return 4 * self.concurrency

    def is_in_lookback(self, day: date) -> bool:
        """Whether the day is read again in every run: today and the lookback before it."""
        return day >= self.today - timedelta(days=self.lookback)

    def finalizes_at(self, day: date) -> datetime:
        """Read at or after this moment, a day is final."""
        return day_start(day) + DAY * (1 + self.lookback)


@dataclass(frozen=True, slots=True)
class StoredState:
    """What the warehouse knows of an account: ``days`` that were asked for, ``final`` ones among them, and of names.

    ``frozen`` days stay as they are: their answers are not kept any more.
    """

    days: Mapping[date, DayState] = field(default_factory=dict)
    final: frozenset[date] = frozenset()
    without_raw: frozenset[date] = frozenset()
    active_periods: Mapping[SeriesKey, tuple[ActivePeriod, ...]] = field(default_factory=dict)
    last_spend: Mapping[SeriesKey, Measures] = field(default_factory=dict)
    member_statuses: Mapping[SeriesKey, MemberStatus] = field(default_factory=dict)
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = field(default_factory=dict)


# ---------------------------------------------------------------- what it answers


class StopReason(Enum):
    """Why the walk is over."""

    DONE = "everything asked for is held"
    LIMIT = "--max-requests is reached with windows left"
    ACCOUNT_REJECTED = "the API refused the account"
    TOO_MANY_FAILURES = "trouble on too many windows in a row"


@dataclass(frozen=True, slots=True)
class Request:
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to ask until an answer comes."""


@dataclass(frozen=True, slots=True)
class Done:
    stop_reason: StopReason


Step = Request | Wait | Done


# ---------------------------------------------------------------- what it remembers


@dataclass(frozen=True, slots=True)
class DayPlan:
    """A day in progress.

    ``due`` filters must be asked whatever the verdict; ``settled`` ones were answered or tried and are not asked
    again in this run; ``sent`` are the windows asked so far, ``in_flight`` those in the air. ``unverified`` windows
    were empty where spend is held, and so are asked once more. The cuts ``rechecked`` exceeded the total and were
    asked once more for it.
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
    is_discovering: bool = False

    @property
    def can_request_members(self) -> bool:
        """Whether there is a total with spend, beside which queues, apps and addresses can be asked."""
        return self.day_state.has_spend and self.day_state.total_requested_at is not None and not self.needs_total

    @property
    def may_discover(self) -> bool:
        """Whether the day hunts, or may come to: its total is not read yet, or it is closed."""
        return self.needs_total or self.day_state.is_closed


@dataclass(frozen=True, slots=True)
class PlannerState:
    """All the walk knows: a few days in progress, names, and how far back it has come.

    ``first`` is the first day of the known range. ``days_without_raw`` frozen days would be asked for names if their
    answers were kept.
    ``pending`` are days of the known range that need a visit, newest first, ``stored`` what was held when the run
    began.
    ``further`` is the next day older than all that is known; None: nothing further back is wanted. ``oldest_spend``
    is the oldest day with spend, or whose total failed: history is read until ``empty_days`` before it. ``shut`` are
    the days that the last call of ``next`` or ``tell`` finished with. ``alike`` counts windows in a row that failed
    with one code,
    ``failed`` those with any.
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
    open_days: Mapping[date, DayPlan] = field(default_factory=dict)
    probe: Window | None = None
    failed_probes: frozenset[Dimension] = frozenset()
    discovery_found_nothing: bool = False
    completed_days: tuple[date, ...] = ()
    requests_sent: int = 0
    retries: int = 0
    same_error_streak: tuple[str, int] = ("", 0)
    failure_streak: int = 0
    stopped_by: Snapshot | None = None
    stop_reason: StopReason | None = None

    @property
    def in_flight(self) -> int:
        return sum(len(plan.in_flight) for plan in self.open_days.values()) + (self.probe is not None)

    @property
    def unprobed_dimensions(self) -> list[Dimension]:
        """Cuts that will be asked of which it is not known what a name that cannot exist gives."""
        record_activity = (
            SPLIT_DIMENSIONS
            if self.options.totals_only
            else self.members.unknown_name_behaviours.keys() | self.failed_probes
        )
        return [
            dimension
            for dimension in SPLIT_DIMENSIONS
            if dimension not in record_activity and (dimension is Dimension.QUEUE or self.members.candidates[dimension])
        ]

    @property
    def days_left(self) -> int:
        """Days still to be visited, or not finished with; of a history whose start is not known yet, at least so
        many."""
        return len(self.open_days) + len(self.pending) + (not self.pending and self.next_day is not None)

    @property
    def next_day(self) -> date | None:
        """The newest day not yet visited: of the known range first, then further back until the history's start."""
        if self.pending:
            return self.pending[0]
        if self.next_older_day is None or self.next_older_day < EARLIEST_DAY:
            return None
        if self.oldest_spend is None:
            limit = self.options.end_day - timedelta(days=self.options.empty_days * NO_SPEND_FACTOR - 1)
        else:
            limit = self.oldest_spend - timedelta(days=self.options.empty_days)
        return self.next_older_day if self.next_older_day >= limit else None

    @property
    def found_no_spend(self) -> bool:
        """Whether the search for the start of history ended without ever seeing spend."""
        return self.oldest_spend is None and self.options.since is None
