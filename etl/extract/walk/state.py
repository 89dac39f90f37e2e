"""The words of the walk: what it is given, what it answers, what it remembers. All frozen."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import Enum

from etl.extract.walk.names import CATALOGUE, Names
from etl.records import CUTS, DAY, Belief, Cut, Filter, Lesson, Reading, Spell, Value, Verdict, Window, day_start

FLOOR = date(2005, 1, 1)
"""No day before this is searched for the start of history: it is older than the service."""

NO_SPEND_FACTOR = 10
"""Until any spend is known, history is searched for so many times ``empty_days``."""


# ---------------------------------------------------------------- what it is given


@dataclass(frozen=True, slots=True)
class Wishes:
    """What this run was asked for. ``since`` and ``until`` are inclusive; a ``since`` of None: until the start of history.

    ``named`` are the queues, apps and addresses that the user listed, ``by_hand`` those of them on the command line, ``trusted``
    those that exist though they only ever answer with the total.
    """

    account: str
    today: date
    since: date | None = None
    until: date | None = None
    lookback: int = 3
    empty_days: int = 90
    named: tuple[Filter, ...] = ()
    trusted: tuple[Filter, ...] = ()
    by_hand: frozenset[Filter] = frozenset()
    catalogue: tuple[str, ...] = CATALOGUE
    totals_only: bool = False
    concurrency: int = 4
    max_requests: int | None = None

    @property
    def newest(self) -> date:
        """The day the walk begins with."""
        return min(self.until or self.today, self.today)

    def asks_names_of(self, day: date) -> bool:
        """Whether names may be asked of a day that is held."""
        return not self.totals_only and (self.since or FLOOR) <= day <= self.newest

    @property
    def days_at_once(self) -> int:
        """Days in progress at most: enough to read totals further back while a newer day hunts."""
        return 4 * self.concurrency

    def is_recent(self, day: date) -> bool:
        """Whether the day is read again in every run: today and the lookback before it."""
        return day >= self.today - timedelta(days=self.lookback)

    def final_at(self, day: date) -> datetime:
        """Read at or after this moment, a day is final."""
        return day_start(day) + DAY * (1 + self.lookback)


@dataclass(frozen=True, slots=True)
class Held:
    """What the warehouse knows of an account: ``days`` that were asked for, ``final`` ones among them, and of names.

    ``frozen`` days stay as they are: their answers are not kept any more.
    """

    days: Mapping[date, Verdict] = field(default_factory=dict)
    final: frozenset[date] = frozenset()
    frozen: frozenset[date] = frozenset()
    spells: Mapping[Filter, tuple[Spell, ...]] = field(default_factory=dict)
    spent: Mapping[Filter, Value] = field(default_factory=dict)
    beliefs: Mapping[Filter, Belief] = field(default_factory=dict)
    lessons: Mapping[Cut, Lesson] = field(default_factory=dict)


# ---------------------------------------------------------------- what it answers


class Why(Enum):
    """Why the walk is over."""

    DONE = "everything asked for is held"
    LIMIT = "--max-requests is reached with windows left"
    REFUSED = "the API refused the account"
    ALIKE = "trouble on too many windows in a row"


@dataclass(frozen=True, slots=True)
class Ask:
    windows: tuple[Window, ...]


@dataclass(frozen=True, slots=True)
class Wait:
    """Nothing to ask until an answer comes."""


@dataclass(frozen=True, slots=True)
class Done:
    why: Why


Step = Ask | Wait | Done


# ---------------------------------------------------------------- what it remembers


@dataclass(frozen=True, slots=True)
class Plan:
    """A day in progress.

    ``due`` filters must be asked whatever the verdict; ``settled`` ones were answered or tried and are not asked again in
    this run; ``sent`` are the windows asked so far, ``flying`` those in the air. ``doubted`` windows were empty where spend is
    held, and so are asked once more. The cuts ``asked_again`` exceeded the total and were asked once more for it.
    """

    day: date
    verdict: Verdict
    needs_total: bool
    due: frozenset[Filter] = frozenset()
    settled: frozenset[Filter] = frozenset()
    sent: frozenset[Window] = frozenset()
    flying: frozenset[Window] = frozenset()
    doubted: frozenset[Window] = frozenset()
    asked_again: frozenset[Cut] = frozenset()
    hunting: bool = False

    @property
    def is_split(self) -> bool:
        """Whether there is a total with spend, beside which queues, apps and addresses can be asked."""
        return self.verdict.has_spend and self.verdict.total_asked is not None and not self.needs_total

    @property
    def may_hunt(self) -> bool:
        """Whether the day hunts, or may come to: its total is not read yet, or it is closed."""
        return self.needs_total or self.verdict.closed


@dataclass(frozen=True, slots=True)
class State:
    """All the walk knows: a few days in progress, names, and how far back it has come.

    ``first`` is the first day of the known range. ``unfilled`` frozen days would be asked for names if their answers were kept.
    ``todo`` are days of the known range that need a visit, newest first, ``held`` what was held when the run began.
    ``further`` is the next day older than all that is known; None: nothing further back is wanted. ``oldest_spend`` is the
    oldest day with spend, or whose total failed: history is read until ``empty_days`` before it. ``shut`` are the days that
    the last call of ``next`` or ``tell`` finished with. ``alike`` counts windows in a row that failed with one code,
    ``failed`` those with any.
    """

    wishes: Wishes
    names: Names
    first: date
    unfilled: int
    todo: tuple[date, ...]
    held: Mapping[date, Verdict]
    further: date | None
    oldest_spend: date | None
    knows_a_total: bool
    open: Mapping[date, Plan] = field(default_factory=dict)
    probe: Window | None = None
    probes_failed: frozenset[Cut] = frozenset()
    hunt_was_fruitless: bool = False
    shut: tuple[date, ...] = ()
    asked: int = 0
    retries: int = 0
    alike: tuple[str, int] = ("", 0)
    failed: int = 0
    refusal: Reading | None = None
    stopped: Why | None = None

    @property
    def flying(self) -> int:
        return sum(len(plan.flying) for plan in self.open.values()) + (self.probe is not None)

    @property
    def unlearned(self) -> list[Cut]:
        """Cuts that will be asked of which it is not known what a name that cannot exist gives."""
        learned = CUTS if self.wishes.totals_only else self.names.lessons.keys() | self.probes_failed
        return [cut for cut in CUTS if cut not in learned and (cut is Cut.QUEUE or self.names.worth[cut])]

    @property
    def days_left(self) -> int:
        """Days still to be visited, or not finished with; of a history whose start is not known yet, at least so many."""
        return len(self.open) + len(self.todo) + (not self.todo and self.next_day is not None)

    @property
    def next_day(self) -> date | None:
        """The newest day not yet visited: of the known range first, then further back until the history's start."""
        if self.todo:
            return self.todo[0]
        if self.further is None or self.further < FLOOR:
            return None
        if self.oldest_spend is None:
            limit = self.wishes.newest - timedelta(days=self.wishes.empty_days * NO_SPEND_FACTOR - 1)
        else:
            limit = self.oldest_spend - timedelta(days=self.wishes.empty_days)
        return self.further if self.further >= limit else None

    @property
    def found_no_spend(self) -> bool:
        """Whether the search for the start of history ended without ever seeing spend."""
        return self.oldest_spend is None and self.wishes.since is None
