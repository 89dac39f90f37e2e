"""The words of the program: frozen values that travel from room to room.

Three statements hold everywhere and are said only here:

* a span of time is half-open, ``[start, end)``; the API's inclusive ``dateTill`` ends in ``extract/wire.py``;
* a ``datetime`` is aware and UTC, an hour is named by its first second;
* money is a ``Decimal`` of US dollars with at most nine places; it is rounded once, in ``transform/money.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from typing import NamedTuple

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MAX_CLOCK_SKEW = timedelta(minutes=5)
"""With the server's clock further away than this, nothing becomes final."""

UNATTRIBUTED = "(unattributed)"
"""What analysts read as the queue of the rest. No filter carries it: the rest is ``Filter(Cut.QUEUE, None)``."""


def day_start(day: date) -> datetime:
    """The first second of a UTC day."""
    return datetime.combine(day, time.min, UTC)


# ---------------------------------------------------------------- asking


class Dimension(StrEnum):
    """A way of slicing the same money. Cuts are never added to one another."""

    TOTAL = "total"
    QUEUE = "queue"
    APP = "app"
    IP = "ip"


class SeriesKey(NamedTuple):
    """What a request is narrowed to. As a row of the warehouse it is a series.

    ``member`` is the queue's name, the softId in digits, or the IP address. ``Filter(cut, None)`` of any cut but the
    total is that cut's rest: money of the total that no member explains. A rest is computed, never asked.
    """

    dimension: Dimension
    member: str | None = None

    @property
    def is_unattributed(self) -> bool:
        return self.member is None and self.dimension is not Dimension.TOTAL

    def __str__(self) -> str:
        return (
            "all queues" if self.dimension is Dimension.TOTAL else f"{self.dimension} {self.member or UNATTRIBUTED!r}"
        )


TOTAL = SeriesKey(Dimension.TOTAL)

SPLIT_DIMENSIONS = (Dimension.QUEUE, Dimension.APP, Dimension.IP)
"""What is asked beside the total, in this order."""


def queue(name: str) -> SeriesKey:
    return SeriesKey(Dimension.QUEUE, name)


def app(soft_id: str) -> SeriesKey:
    return SeriesKey(Dimension.APP, soft_id)


def ip(address: str) -> SeriesKey:
    return SeriesKey(Dimension.IP, address)


@dataclass(frozen=True, slots=True)
class Window:
    """One request's worth: the unit of planning, retry and commit.

    ``start`` is what is sent as ``date``, a whole UTC hour. Hours in ``[start, end)`` are the window's own; an answer
    may carry others, which are set aside. ``day`` is the UTC day the window's hours are booked on.
    """

    account: str
    series: SeriesKey
    day: date
    start: datetime
    end: datetime

    @property
    def is_partial_day(self) -> bool:
        """Whether only the day's later hours are asked for, because an earlier answer did not speak for them."""
        return self.start > day_start(self.day)

    @classmethod
    def whole_day(cls, account: str, series: SeriesKey, day: date) -> "Window":
        return cls(account, series, day, day_start(day), day_start(day) + DAY)

    def __str__(self) -> str:
        tail = f" from {self.start:%H:%M}" if self.is_partial_day else ""
        return f"{self.account}, {self.day}{tail}, {self.series}"

    @property
    def log_fields(self) -> dict[str, object]:
        """The window for programs that read the log, by the names of the warehouse's columns."""
        return {
            "day": f"{self.day}",
            "window_start": f"{self.start:%Y-%m-%dT%H:%M:%SZ}",
            "cut": self.series.dimension.value,
            "member": self.series.member,
        }


# ---------------------------------------------------------------- the answer, as it came


class ErrorScope(StrEnum):
    """What an ``errorCode`` ends."""

    ACCOUNT = "account"
    """The account: every other request of it is stopped at once, nothing is retried."""
    SERIES = "series"
    """That filter: it is not asked again."""
    WINDOW = "window"
    """That window: one spaced retry, then the window failed and the run goes on."""
    TRANSIENT = "transient"
    """Nothing but the moment: it is asked again like any trouble on the way."""


class RawRecord(NamedTuple):
    """One element of ``data``, its four fields as JSON gave them (``None`` when absent) and its own text."""

    date_from: object
    date_till: object
    volume: object
    money: object
    raw: str


@dataclass(frozen=True, slots=True)
class SuccessPayload:
    """A good reply: ``errorId`` was 0."""

    records: tuple[RawRecord, ...]


@dataclass(frozen=True, slots=True)
class ApiError:
    """The API said no: ``errorId`` was not 0. Branch on ``effect`` or ``code``, never on ``description``."""

    code: str
    description: str
    scope: ErrorScope


@dataclass(frozen=True, slots=True)
class InvalidResponse:
    """Something came that is not an answer of the API: HTML, a cut body, a missing ``errorId``, NaN, HTTP 500."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class TransportError:
    """Nothing came: refused, reset, timed out, DNS, TLS."""

    code: str
    reason: str


ParsedResponse = SuccessPayload | ApiError | InvalidResponse | TransportError


@dataclass(frozen=True, slots=True)
class Response:
    """The last reply to one window, kept as it came.

    ``requested_at`` is when that last request began, ``requests`` how many were sent for it (1 = no retry),
    ``server_time`` the reply's ``Date`` header. ``seconds`` went by from the first request to this reply.
    """

    window: Window
    requested_at: datetime
    reply: ParsedResponse
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    requests: int = 1
    server_time: datetime | None = None
    seconds: float = field(default=0, compare=False)
    compressed_body: bytes = field(default=b"", repr=False, compare=False)
    """The body as it is kept; empty where that is still to be made."""


# ---------------------------------------------------------------- the reading: validated, deduplicated


class Measures(NamedTuple):
    """What one hour of one series holds: tasks and US dollars."""

    volume: int
    money: Decimal


ZERO_MEASURES = Measures(0, Decimal(0))


class Record(NamedTuple):
    """One exact hourly record of an answer: ``[hour_start, hour_start + 1 h)``."""

    hour_start: datetime
    volume: int
    money: Decimal

    @property
    def value(self) -> Measures:
        return Measures(self.volume, self.money)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused record with its reason and raw text. ``hour_start`` is None when even that could not be read."""

    reason: str
    raw: str
    hour_start: datetime | None = None


class Outcome(StrEnum):
    SUCCESS = "success"
    PARTIAL = "partial"
    """A rejection left an hour uncovered: the good records are used, the window counts as failed and is asked again."""
    API_ERROR = "api_error"
    """The API answered with an error."""
    FAILED = "failed"
    """No usable answer: transport, unreadable body, another grid."""


class SourcedMeasures(NamedTuple):
    """One hour as the API gave it: the value, the reading it came from and when that was asked."""

    value: Measures
    snapshot: int
    requested_at: datetime

    def was_complete(self, hour_start: datetime) -> bool:
        """Whether the hour was over when it was read."""
        return hour_start + HOUR <= self.requested_at


@dataclass(frozen=True)
class Snapshot:
    """One answered window, remembered for good.

    ``number`` counts an account's readings, from 1. ``code`` and ``message`` say why a reading is not good,
    ``effect`` what a refusal ends. ``records`` are those of the window's own hours, one an hour, in order of time;
    ``outside`` counts those set aside.
    """

    number: int
    window: Window
    requested_at: datetime
    outcome: Outcome
    records: tuple[Record, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    out_of_window: int = 0
    code: str = ""
    message: str = ""
    error_scope: ErrorScope | None = None
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    compressed_body: bytes = field(default=b"", repr=False, compare=False)

    @property
    def is_success(self) -> bool:
        return self.outcome is Outcome.SUCCESS

    @cached_property
    def values_by_hour(self) -> Mapping[datetime, SourcedMeasures]:
        """Its records by their hour; made once, for a day is folded often."""
        return {
            record.hour_start: SourcedMeasures(record.value, self.number, self.requested_at) for record in self.records
        }


# ---------------------------------------------------------------- what is believed


class Fact(NamedTuple):
    """One hour of one series as believed now, and the number of the reading it came from."""

    series: SeriesKey
    hour_start: datetime
    volume: int
    money: Decimal
    snapshot: int

    @property
    def value(self) -> Measures:
        return Measures(self.volume, self.money)

    @property
    def is_delete(self) -> bool:
        """Whether the warehouse keeps no row of it: a zero, unless it is the total's, which says that the hour was
        read."""
        return self.series != TOTAL and not self.volume and not self.money


class ChangeReason(StrEnum):
    """Why a held value changed."""

    CORRECTION = "correction"
    """The API gave another value for an hour that had ended when the earlier one was read."""
    LATE_ARRIVING = "late_arriving"
    """The hour had not ended when the earlier value was read."""
    REATTRIBUTION = "attribution"
    """The API's numbers stood; what they are attributed to changed."""


class Revision(NamedTuple):
    """A value that was different when read before."""

    series: SeriesKey
    hour_start: datetime
    before: Measures
    after: Measures
    cause: ChangeReason
    snapshot: int


@dataclass(frozen=True, slots=True)
class Breakdown:
    """What the believed members of one cut explain of a day's total.

    ``is_explained``: they explain every hour that had ended when the total was asked. ``is_over_allocated``: in such
    an hour they exceed it. ``unattributed``: what is left of the day; ``unattributed_by_hour``: of its hours that had
    ended and are not explained.
    """

    unattributed: Measures = ZERO_MEASURES
    is_explained: bool = False
    is_over_allocated: bool = False
    unattributed_by_hour: Mapping[datetime, Measures] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class DayState:
    """What the fold says of one day: enough to decide what to ask next, and what its row of coverage holds.

    ``breakdowns`` has a cut's split when a member of it is held, and always that of queues. ``failed``: filters of
    which a window's last attempt failed. ``outstanding``: the ``date`` to ask for a filter's first hour that had
    ended and that its answers do not speak for. ``hours``: the total, hour by hour. ``asked``: when the reading that
    counts for a filter began.
    ``active``: members with volume or money that day; doubted ones, and those that a refusal ended, left out.
    ``hours_without_full_day_response``: hours of the total that only a tail spoke for, so that an answer without any
    record does not.
    """

    day: date
    total: Measures = ZERO_MEASURES
    total_requested_at: datetime | None = None
    is_closed: bool = False
    breakdowns: Mapping[Dimension, Breakdown] = field(default_factory=dict)
    failed: frozenset[SeriesKey] = frozenset()
    outstanding: tuple[tuple[SeriesKey, datetime], ...] = ()
    total_by_hour: Mapping[datetime, Measures] = field(default_factory=dict)
    requested_at: Mapping[SeriesKey, datetime] = field(default_factory=dict)
    active_members: frozenset[SeriesKey] = frozenset()
    hours_without_full_day_response: frozenset[datetime] = frozenset()

    def breakdown(self, dimension: Dimension) -> Breakdown:
        """The cut's split; of one that nothing is held of, one that explains nothing."""
        return self.breakdowns.get(dimension, NO_BREAKDOWN)

    @property
    def unattributed(self) -> Measures:
        """What no believed queue explains."""
        return self.breakdown(Dimension.QUEUE).unattributed

    @property
    def is_explained(self) -> bool:
        """Whether the believed queues explain the day."""
        return self.breakdown(Dimension.QUEUE).is_explained

    @property
    def over_allocated_dimensions(self) -> frozenset[Dimension]:
        """Cuts whose members exceed the total."""
        return frozenset(dimension for dimension, breakdown in self.breakdowns.items() if breakdown.is_over_allocated)

    @property
    def has_spend(self) -> bool:
        return self.total != ZERO_MEASURES

    @property
    def is_failed(self) -> bool:
        """Whether the last attempt of a window that the day needs failed."""
        return any(series == TOTAL or not self.breakdown(series.dimension).is_explained for series in self.failed)

    def read_since(self, moment: datetime) -> bool:
        """Whether every window the day needs was read at or after ``moment``, and no hour is owed."""
        asked = [self.total_requested_at, *(self.requested_at.get(series) for series in self.active_members)]
        return not self.outstanding and all(at is not None and at >= moment for at in asked)


NO_BREAKDOWN = Breakdown()


class ActivePeriod(NamedTuple):
    """First and last day of a stretch in which a queue had spend, idle days of less than a week included."""

    first: date
    last: date

    def distance(self, day: date) -> int:
        """Days between the spell and ``day``; 0 inside it."""
        return max((self.first - day).days, (day - self.last).days, 0)


class MemberStatus(StrEnum):
    """What is thought of a queue name, a softId or an IP address (see the README, "Which queue names are believed")."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"
    """It has only ever answered with the total: its money stays unattributed."""
    EXCLUDED = "excluded"
    """It answered with the error that a member which cannot exist gives, or is not the account's: not asked again."""
    RETIRED = "retired"
    """It was believed and is refused now: what is held of it stays, it is not asked again."""

    @property
    def is_requested(self) -> bool:
        return self in (MemberStatus.VERIFIED, MemberStatus.UNVERIFIED)

    @property
    def is_loaded(self) -> bool:
        """Whether what it answered counts."""
        return self in (MemberStatus.VERIFIED, MemberStatus.RETIRED)


class UnknownNameAnswer(StrEnum):
    """What the service answers for a queue, a softId or an IP address that cannot exist."""

    ERROR = "error"
    ZEROS = "zeros"
    TOTALS = "totals"


class UnknownNameBehaviour(NamedTuple):
    """What a member that cannot exist gave. Asked once a cut in an account's life. ``code`` is the error's, where it
    is one."""

    answer: UnknownNameAnswer
    code: str | None = None


class Severity(StrEnum):
    """What a finding asks of a person."""

    NOTE = "note"
    """Nothing: it is so."""
    WARNING = "warning"
    """Something to mend; the numbers are right."""
    BLOCKING = "blocking"
    """Not to trust the numbers until it is looked at."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should know about the numbers, with its remedy."""

    check: str
    severity: Severity
    message: str
    day: date | None = None
    queue: str | None = None
