"""Frozen domain types shared by all parts of the program.

Three rules hold everywhere:

* a span of time is half-open, ``[start, end)``; only ``extract/protocol.py`` knows the API's inclusive ``dateTill``;
* a ``datetime`` is aware and UTC; an hour is named by its first second;
* money is a ``Decimal`` of US dollars with at most nine places, rounded once, in ``money.py``.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import StrEnum
from typing import NamedTuple

from etl.hour_values import NO_VALUES, HourValues
from etl.money import to_dollars

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)

MAX_CLOCK_SKEW = timedelta(minutes=5)
"""If the server's clock differs by more than this, no day becomes final."""

UNATTRIBUTED = "(unattributed)"
"""The queue name that users see for an unattributed amount. Its series is ``SeriesKey(Dimension.QUEUE, None)``."""


def day_start(day: date) -> datetime:
    """Return the first second of a UTC day."""
    return datetime.combine(day, time.min, UTC)


# ---------------------------------------------------------------- requests


class Dimension(StrEnum):
    """A way to break down the same money. Amounts of different dimensions are never added up."""

    TOTAL = "total"
    QUEUE = "queue"
    APP = "app"
    IP = "ip"


class SeriesKey(NamedTuple):
    """An account's spend, narrowed to at most one member.

    ``member`` is a queue name, a softId in digits or an IP address. Without a member, a dimension other than the total
    stands for its unattributed amount, which is computed and never requested.
    """

    dimension: Dimension
    member: str | None = None

    @property
    def is_unattributed(self) -> bool:
        return self.member is None and self.dimension is not Dimension.TOTAL

    def __str__(self) -> str:
        return "total" if self == TOTAL else f"{self.dimension} {self.member or UNATTRIBUTED!r}"


TOTAL = SeriesKey(Dimension.TOTAL)

SPLIT_DIMENSIONS = (Dimension.QUEUE, Dimension.APP, Dimension.IP)
"""The dimensions besides the total, in the order of their requests."""


def queue(name: str) -> SeriesKey:
    return SeriesKey(Dimension.QUEUE, name)


def app(soft_id: str) -> SeriesKey:
    return SeriesKey(Dimension.APP, soft_id)


def ip(address: str) -> SeriesKey:
    return SeriesKey(Dimension.IP, address)


@dataclass(frozen=True, slots=True)
class Window:
    """One API request's worth: the unit of planning, retry and commit.

    ``start`` is sent as ``date`` and is a whole UTC hour. The hours in ``[start, end)`` belong to the window; other
    hours of its response are ignored. ``day`` is the UTC day of these hours.
    """

    account: str
    series: SeriesKey
    day: date
    start: datetime
    end: datetime

    @property
    def first_hour(self) -> int:
        """The first hour of the day that is requested; all later ones are too."""
        return self.start.hour

    @property
    def is_partial_day(self) -> bool:
        """True if only the day's later hours are requested, because an earlier response did not cover them."""
        return self.start > day_start(self.day)

    @classmethod
    def whole_day(cls, account: str, series: SeriesKey, day: date) -> "Window":
        return cls(account, series, day, day_start(day), day_start(day) + DAY)

    def __str__(self) -> str:
        tail = f" from {self.start:%H:%M}" if self.is_partial_day else ""
        return f"{self.account} {self.day}{tail} {self.series}"

    @property
    def log_fields(self) -> dict[str, object]:
        """The window as fields of a JSON log line."""
        return {
            "day": f"{self.day}",
            "window_start": f"{self.start:%Y-%m-%dT%H:%M:%SZ}",
            "cut": self.series.dimension.value,  # the key is part of the log format that users rely on
            "member": self.series.member,
        }


# ---------------------------------------------------------------- snapshots


class ErrorScope(StrEnum):
    """What an ``errorCode`` concerns, and so what stops."""

    ACCOUNT = "account"  # all requests of the account stop; nothing is retried
    SERIES = "series"  # the queue, app or IP is not requested again
    WINDOW = "window"  # the window fails after one delayed retry; the run goes on
    TRANSIENT = "transient"  # nothing: retried like a transport error


class Measures(NamedTuple):
    """What one hour of one series contains: number of tasks and US dollars."""

    volume: int
    money: Decimal

    @classmethod
    def of(cls, volume: int, nanodollars: int) -> "Measures":
        return cls(volume, to_dollars(nanodollars))


ZERO_MEASURES = Measures(0, Decimal(0))


class Record(NamedTuple):
    """One valid hourly record of a response, for ``[hour_start, hour_start + 1 h)``."""

    hour_start: datetime
    volume: int
    money: Decimal

    @property
    def value(self) -> Measures:
        return Measures(self.volume, self.money)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One record that cannot be used, with the reason and its raw text. ``hour_start`` is None if it is unreadable."""

    reason: str
    raw: str
    hour_start: datetime | None = None


class Outcome(StrEnum):
    SUCCESS = "success"
    PARTIAL = "partial"  # rejected records left hours without a value: valid ones are used, the window counts as failed
    API_ERROR = "api_error"  # the API replied with an error
    FAILED = "failed"  # no usable response: transport error, unreadable body, hours with another offset


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A parsed response: what the API said about one window at one moment.

    ``number`` counts an account's snapshots from 1. ``code`` and ``message`` say why a snapshot is no success.
    ``values`` has the records of the window's own hours; ``out_of_window`` counts the others. ``hour_offset_seconds``
    is the start of hour 0 minus 00:00 UTC; None without any record. ``lacks_data``: a success without ``data``.
    """

    number: int
    window: Window
    requested_at: datetime
    outcome: Outcome
    values: HourValues = NO_VALUES
    hour_offset_seconds: int | None = None
    rejections: tuple[Rejection, ...] = ()
    out_of_window: int = 0
    code: str = ""
    message: str = ""
    error_scope: ErrorScope | None = None
    lacks_data: bool = False
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    compressed_body: bytes = field(default=b"", repr=False, compare=False)

    @property
    def is_success(self) -> bool:
        return self.outcome is Outcome.SUCCESS

    @property
    def has_records(self) -> bool:
        return not self.values.is_empty


# ---------------------------------------------------------------- facts


class Fact(NamedTuple):
    """One hour of one series as it is stored, and the snapshot its value came from."""

    series: SeriesKey
    hour_start: datetime
    volume: int
    nanodollars: int
    snapshot: int

    @property
    def money(self) -> Decimal:
        return to_dollars(self.nanodollars)

    @property
    def is_delete(self) -> bool:
        """True if the fact has no row: it is zero. Zeros of the total have one; they show that the hour was read."""
        return not self.volume and not self.nanodollars and self.series != TOTAL


class ChangeReason(StrEnum):
    """Why a stored value changed."""

    CORRECTION = "correction"  # the API changed an hour that had ended when it was first read
    LATE_ARRIVING = "late_arriving"  # The hour had not ended when it was first read
    REATTRIBUTION = "attribution"  # the API's numbers are the same; they are attributed differently


class Revision(NamedTuple):
    """A stored value that changed."""

    series: SeriesKey
    hour_start: datetime
    before: Measures
    after: Measures
    cause: ChangeReason
    snapshot: int


# ---------------------------------------------------------------- days


@dataclass(frozen=True, slots=True)
class Breakdown:
    """How much of a day's total the verified members of one dimension explain.

    ``is_explained``: all of every hour that had ended when the total was requested. ``is_over_allocated``: in such an
    hour, they add up to more than the total. ``unattributed`` is what they leave of the day, ``unattributed_by_hour``
    what they leave of hours that had ended and are not explained (other hours have no value).
    """

    unattributed: Measures = ZERO_MEASURES
    is_explained: bool = False
    is_over_allocated: bool = False
    unattributed_by_hour: HourValues = NO_VALUES


NO_BREAKDOWN = Breakdown()


@dataclass(frozen=True, slots=True)
class DayState:
    """What is known about one day: enough to decide what to request next, and to write its coverage row.

    * ``breakdowns``: of queues always, of another dimension if it has stored members.
    * ``failed``: series with a window whose last attempt failed.
    * ``outstanding``: per series, the ``date`` to request for the first ended hour that its responses do not cover.
    * ``requested_at``: when the response that counts for a series was requested.
    * ``active_members``: members with volume or money; not the unverified and the retired ones.
    * ``hours_without_full_day_response``: hours of the total that only a partial-day window covered, so that an empty
      whole-day response says nothing about them.
    """

    day: date
    total: Measures = ZERO_MEASURES
    total_requested_at: datetime | None = None
    is_closed: bool = False
    breakdowns: Mapping[Dimension, Breakdown] = field(default_factory=dict)
    failed: frozenset[SeriesKey] = frozenset()
    outstanding: tuple[tuple[SeriesKey, datetime], ...] = ()
    total_by_hour: HourValues = NO_VALUES
    requested_at: Mapping[SeriesKey, datetime] = field(default_factory=dict)
    active_members: frozenset[SeriesKey] = frozenset()
    hours_without_full_day_response: frozenset[int] = frozenset()

    def breakdown(self, dimension: Dimension) -> Breakdown:
        """The dimension's breakdown; if nothing of it is stored, one that explains nothing."""
        return self.breakdowns.get(dimension, NO_BREAKDOWN)

    @property
    def unattributed(self) -> Measures:
        """The amount that no verified queue explains."""
        return self.breakdown(Dimension.QUEUE).unattributed

    @property
    def is_explained(self) -> bool:
        """True if the verified queues explain the day."""
        return self.breakdown(Dimension.QUEUE).is_explained

    @property
    def over_allocated_dimensions(self) -> frozenset[Dimension]:
        return frozenset(dimension for dimension, breakdown in self.breakdowns.items() if breakdown.is_over_allocated)

    @property
    def has_spend(self) -> bool:
        return self.total != ZERO_MEASURES

    @property
    def is_failed(self) -> bool:
        """True if the last attempt of a window that the day needs failed."""
        return any(series == TOTAL or not self.breakdown(series.dimension).is_explained for series in self.failed)

    def read_since(self, moment: datetime) -> bool:
        """True if no hour is outstanding and every window the day needs was requested at or after ``moment``."""
        requested = [self.total_requested_at, *(self.requested_at.get(series) for series in self.active_members)]
        return not self.outstanding and all(at is not None and at >= moment for at in requested)


# ---------------------------------------------------------------- members


class ActivePeriod(NamedTuple):
    """First and last day of a period of spend; idle gaps of up to a week are part of it."""

    first: date
    last: date

    def distance(self, day: date) -> int:
        """Days between the period and ``day``; 0 inside it."""
        return max((self.first - day).days, (day - self.last).days, 0)


class MemberStatus(StrEnum):
    """What is known about a queue name, a softId or an IP address."""

    VERIFIED = "verified"
    UNVERIFIED = "unverified"  # it has only ever returned the account's total: its money stays unattributed
    EXCLUDED = "excluded"  # refused like a name that does not exist, or not the account's: not requested again
    RETIRED = "retired"  # it was verified and the API refuses it now: stored values stay, it is not requested again

    @property
    def is_requested(self) -> bool:
        return self in (MemberStatus.VERIFIED, MemberStatus.UNVERIFIED)

    @property
    def is_loaded(self) -> bool:
        """True if its responses count."""
        return self in (MemberStatus.VERIFIED, MemberStatus.RETIRED)


class UnknownNameAnswer(StrEnum):
    """What the API returns for a queue, a softId or an IP address that does not exist."""

    ERROR = "error"
    ZEROS = "zeros"
    TOTALS = "totals"


class UnknownNameBehaviour(NamedTuple):
    """What a name that does not exist returned, and the error's code. Tested once per account and dimension."""

    answer: UnknownNameAnswer
    code: str | None = None


# ---------------------------------------------------------------- findings


class Severity(StrEnum):
    """What a finding asks of a person."""

    INFO = "note"  # nothing; for information
    WARNING = "warning"  # something should be fixed; the numbers are right
    BLOCKING = "blocking"  # do not trust the numbers before someone has looked


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing a person should know about the numbers, and what to do about it."""

    check: str
    severity: Severity
    message: str
    day: date | None = None
    queue: str | None = None
