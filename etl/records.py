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

MOST_SKEW = timedelta(minutes=5)
"""With the server's clock further away than this, nothing becomes final."""

UNATTRIBUTED = "(unattributed)"
"""What analysts read as the queue of the rest. No filter carries it: the rest is ``Filter(Cut.QUEUE, None)``."""


def day_start(day: date) -> datetime:
    """The first second of a UTC day."""
    return datetime.combine(day, time.min, UTC)


# ---------------------------------------------------------------- asking


class Cut(StrEnum):
    """A way of slicing the same money. Cuts are never added to one another."""

    TOTAL = "total"
    QUEUE = "queue"
    APP = "app"
    IP = "ip"


class Filter(NamedTuple):
    """What a request is narrowed to. As a row of the warehouse it is a series.

    ``member`` is the queue's name, the softId in digits, or the IP address. ``Filter(cut, None)`` of any cut but the
    total is that cut's rest: money of the total that no member explains. A rest is computed, never asked.
    """

    cut: Cut
    member: str | None = None

    @property
    def is_rest(self) -> bool:
        return self.member is None and self.cut is not Cut.TOTAL

    def __str__(self) -> str:
        return "all queues" if self.cut is Cut.TOTAL else f"{self.cut} {self.member or UNATTRIBUTED!r}"


TOTAL = Filter(Cut.TOTAL)

CUTS = (Cut.QUEUE, Cut.APP, Cut.IP)
"""What is asked beside the total, in this order."""


def queue(name: str) -> Filter:
    return Filter(Cut.QUEUE, name)


def app(soft_id: str) -> Filter:
    return Filter(Cut.APP, soft_id)


def ip(address: str) -> Filter:
    return Filter(Cut.IP, address)


@dataclass(frozen=True, slots=True)
class Window:
    """One request's worth: the unit of planning, retry and commit.

    ``start`` is what is sent as ``date``, a whole UTC hour. Hours in ``[start, end)`` are the window's own; an answer
    may carry others, which are set aside. ``day`` is the UTC day the window's hours are booked on.
    """

    account: str
    filter: Filter
    day: date
    start: datetime
    end: datetime

    @property
    def is_tail(self) -> bool:
        """Whether only the day's later hours are asked for, because an earlier answer did not speak for them."""
        return self.start > day_start(self.day)

    @classmethod
    def whole_day(cls, account: str, filter: Filter, day: date) -> "Window":
        return cls(account, filter, day, day_start(day), day_start(day) + DAY)

    def __str__(self) -> str:
        tail = f" from {self.start:%H:%M}" if self.is_tail else ""
        return f"{self.account}, {self.day}{tail}, {self.filter}"

    @property
    def words(self) -> dict[str, object]:
        """The window for programs that read the log, by the names of the warehouse's columns."""
        return {
            "day": f"{self.day}",
            "window_start": f"{self.start:%Y-%m-%dT%H:%M:%SZ}",
            "cut": self.filter.cut.value,
            "member": self.filter.member,
        }


# ---------------------------------------------------------------- the answer, as it came


class Effect(StrEnum):
    """What an ``errorCode`` ends."""

    ACCOUNT = "account"
    """The account: every other request of it is stopped at once, nothing is retried."""
    FILTER = "filter"
    """That filter: it is not asked again."""
    WINDOW = "window"
    """That window: one spaced retry, then the window failed and the run goes on."""
    MOMENT = "moment"
    """Nothing but the moment: it is asked again like any trouble on the way."""


class RawRecord(NamedTuple):
    """One element of ``data``, its four fields as JSON gave them (``None`` when absent) and its own text."""

    date_from: object
    date_till: object
    volume: object
    money: object
    raw: str


@dataclass(frozen=True, slots=True)
class Rows:
    """A good reply: ``errorId`` was 0."""

    records: tuple[RawRecord, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """The API said no: ``errorId`` was not 0. Branch on ``effect`` or ``code``, never on ``description``."""

    code: str
    description: str
    effect: Effect


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something came that is not an answer of the API: HTML, a cut body, a missing ``errorId``, NaN, HTTP 500."""

    code: str
    reason: str


@dataclass(frozen=True, slots=True)
class Unreachable:
    """Nothing came: refused, reset, timed out, DNS, TLS."""

    code: str
    reason: str


Reply = Rows | Refusal | Unreadable | Unreachable


@dataclass(frozen=True, slots=True)
class Answer:
    """The last reply to one window, kept as it came.

    ``asked_at`` is when that last request began, ``requests`` how many were sent for it (1 = no retry),
    ``server_time`` the reply's ``Date`` header. ``seconds`` went by from the first request to this reply.
    """

    window: Window
    asked_at: datetime
    reply: Reply
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    requests: int = 1
    server_time: datetime | None = None
    seconds: float = field(default=0, compare=False)
    packed: bytes = field(default=b"", repr=False, compare=False)
    """The body as it is kept; empty where that is still to be made."""


# ---------------------------------------------------------------- the reading: validated, deduplicated


class Value(NamedTuple):
    """What one hour of one series holds: tasks and US dollars."""

    volume: int
    money: Decimal


ZERO = Value(0, Decimal(0))


class Record(NamedTuple):
    """One exact hourly record of an answer: ``[hour_start, hour_start + 1 h)``."""

    hour_start: datetime
    volume: int
    money: Decimal

    @property
    def value(self) -> Value:
        return Value(self.volume, self.money)


@dataclass(frozen=True, slots=True)
class Rejection:
    """One refused record with its reason and raw text. ``hour_start`` is None when even that could not be read."""

    reason: str
    raw: str
    hour_start: datetime | None = None


class Outcome(StrEnum):
    GOOD = "good"
    PARTIAL = "partial"
    """A rejection left an hour uncovered: the good records are used, the window counts as failed and is asked again."""
    REFUSED = "refused"
    """The API answered with an error."""
    BROKEN = "broken"
    """No usable answer: transport, unreadable body, another grid."""


class Source(NamedTuple):
    """One hour as the API gave it: the value, the reading it came from and when that was asked."""

    value: Value
    reading: int
    asked_at: datetime

    def had_ended(self, hour_start: datetime) -> bool:
        """Whether the hour was over when it was read."""
        return hour_start + HOUR <= self.asked_at


@dataclass(frozen=True)
class Reading:
    """One answered window, remembered for good.

    ``number`` counts an account's readings, from 1. ``code`` and ``message`` say why a reading is not good, ``effect`` what a
    refusal ends. ``records`` are those of the window's own hours, one an hour, in order of time; ``outside`` counts those set
    aside.
    """

    number: int
    window: Window
    asked_at: datetime
    outcome: Outcome
    records: tuple[Record, ...] = ()
    rejections: tuple[Rejection, ...] = ()
    outside: int = 0
    code: str = ""
    message: str = ""
    effect: Effect | None = None
    status: int | None = None
    body: bytes = field(default=b"", repr=False)
    packed: bytes = field(default=b"", repr=False, compare=False)

    @property
    def is_good(self) -> bool:
        return self.outcome is Outcome.GOOD

    @cached_property
    def said(self) -> Mapping[datetime, Source]:
        """Its records by their hour; made once, for a day is folded often."""
        return {record.hour_start: Source(record.value, self.number, self.asked_at) for record in self.records}


# ---------------------------------------------------------------- what is believed


class Fact(NamedTuple):
    """One hour of one series as believed now, and the number of the reading it came from."""

    filter: Filter
    hour_start: datetime
    volume: int
    money: Decimal
    reading: int

    @property
    def value(self) -> Value:
        return Value(self.volume, self.money)

    @property
    def leaves_nothing(self) -> bool:
        """Whether the warehouse keeps no row of it: a zero, unless it is the total's, which says that the hour was read."""
        return self.filter != TOTAL and not self.volume and not self.money


class Cause(StrEnum):
    """Why a held value changed."""

    SOURCE = "source"
    """The API gave another value for an hour that had ended when the earlier one was read."""
    GROWTH = "growth"
    """The hour had not ended when the earlier value was read."""
    ATTRIBUTION = "attribution"
    """The API's numbers stood; what they are attributed to changed."""


class Revision(NamedTuple):
    """A value that was different when read before."""

    filter: Filter
    hour_start: datetime
    before: Value
    after: Value
    cause: Cause
    reading: int


@dataclass(frozen=True, slots=True)
class Split:
    """What the believed members of one cut explain of a day's total.

    ``explained``: they explain every hour that had ended when the total was asked. ``contradicted``: in such an hour they
    exceed it. ``rest``: what is left of the day; ``rests``: of its hours that had ended and are not explained.
    """

    rest: Value = ZERO
    explained: bool = False
    contradicted: bool = False
    rests: Mapping[datetime, Value] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the fold says of one day: enough to decide what to ask next, and what its row of coverage holds.

    ``splits`` has a cut's split when a member of it is held, and always that of queues. ``failed``: filters of which a
    window's last attempt failed. ``owed``: the ``date`` to ask for a filter's first hour that had ended and that its answers
    do not speak for. ``hours``: the total, hour by hour. ``asked``: when the reading that counts for a filter began.
    ``active``: members with volume or money that day; doubted ones, and those that a refusal ended, left out.
    ``out_of_reach``: hours of the total that only a tail spoke for, so that an answer without any record does not.
    """

    day: date
    total: Value = ZERO
    total_asked: datetime | None = None
    closed: bool = False
    splits: Mapping[Cut, Split] = field(default_factory=dict)
    failed: frozenset[Filter] = frozenset()
    owed: tuple[tuple[Filter, datetime], ...] = ()
    hours: Mapping[datetime, Value] = field(default_factory=dict)
    asked: Mapping[Filter, datetime] = field(default_factory=dict)
    active: frozenset[Filter] = frozenset()
    out_of_reach: frozenset[datetime] = frozenset()

    def split(self, cut: Cut) -> Split:
        """The cut's split; of one that nothing is held of, one that explains nothing."""
        return self.splits.get(cut, NO_SPLIT)

    @property
    def rest(self) -> Value:
        """What no believed queue explains."""
        return self.split(Cut.QUEUE).rest

    @property
    def explained(self) -> bool:
        """Whether the believed queues explain the day."""
        return self.split(Cut.QUEUE).explained

    @property
    def contradicted(self) -> frozenset[Cut]:
        """Cuts whose members exceed the total."""
        return frozenset(cut for cut, split in self.splits.items() if split.contradicted)

    @property
    def has_spend(self) -> bool:
        return self.total != ZERO

    @property
    def is_failed(self) -> bool:
        """Whether the last attempt of a window that the day needs failed."""
        return any(filter == TOTAL or not self.split(filter.cut).explained for filter in self.failed)

    def read_since(self, moment: datetime) -> bool:
        """Whether every window the day needs was read at or after ``moment``, and no hour is owed."""
        asked = [self.total_asked, *(self.asked.get(filter) for filter in self.active)]
        return not self.owed and all(at is not None and at >= moment for at in asked)


NO_SPLIT = Split()


class Spell(NamedTuple):
    """First and last day of a stretch in which a queue had spend, idle days of less than a week included."""

    first: date
    last: date

    def distance(self, day: date) -> int:
        """Days between the spell and ``day``; 0 inside it."""
        return max((self.first - day).days, (day - self.last).days, 0)


class Belief(StrEnum):
    """What is thought of a queue name, a softId or an IP address (see the README, "Which queue names are believed")."""

    BELIEVED = "believed"
    DOUBTED = "doubted"
    """It has only ever answered with the total: its money stays unattributed."""
    SET_ASIDE = "set aside"
    """It answered with the error that a member which cannot exist gives, or is not the account's: not asked again."""
    ENDED = "ended"
    """It was believed and is refused now: what is held of it stays, it is not asked again."""

    @property
    def is_asked(self) -> bool:
        return self in (Belief.BELIEVED, Belief.DOUBTED)

    @property
    def is_booked(self) -> bool:
        """Whether what it answered counts."""
        return self in (Belief.BELIEVED, Belief.ENDED)


class Unknown(StrEnum):
    """What the service answers for a queue, a softId or an IP address that cannot exist."""

    ERROR = "error"
    ZEROS = "zeros"
    TOTALS = "totals"


class Lesson(NamedTuple):
    """What a member that cannot exist gave. Asked once a cut in an account's life. ``code`` is the error's, where it is one."""

    gives: Unknown
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


class Secret:
    """A text that does not print: not by ``str``, ``repr``, ``format``, a traceback with locals, JSON or pickle."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """The text itself: only for the request's body and the account's key hash."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return repr(self)

    def __reduce__(self) -> "str | tuple[object, ...]":
        raise TypeError("a Secret is not pickled")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(self._text)
