"""What to ask next: the mind of the program, pure.

    state = begin(wishes, held)
    state, step = next(state, room)            what to ask now; or wait for an answer; or done
    state = judge(state, reading, verdict)     what the answer says of its queue's name
    state = tell(state, reading, verdict)      what the answer, and the fold of its day, taught

The walk goes backward, newest day first, one UTC day a window. Of a day it asks, in this order:

1. the total. Nothing spent: the day is done with one request;
2. what is *due*: names whose reading no longer stands beside the total, because it changed or became final;
3. what is *likely*: names seen on neighbouring days, all at once;
4. what is *owed*: hours the answers did not speak for, each asked once with ``date`` = that hour;
5. a *hunt*: the remaining names, until the day is explained. Names are hunted for on closed days alone, the newest day
   first; older days wait for its findings while their totals are read. A hunt that finds nothing has nothing to share, so
   the next one asks all its names at once.

The first request of an account's life is a total and the second, on a day with spend, a queue that cannot exist; both go alone.
"""

from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import NamedTuple

from etl.records import (
    DAY,
    TOTAL,
    ZERO,
    Belief,
    Cut,
    Effect,
    Filter,
    Outcome,
    Reading,
    Spell,
    UnknownNames,
    Value,
    Verdict,
    Window,
    day_start,
    queue,
)

NO_SUCH_QUEUE = "no such queue (asked by anticaptcha-etl to learn what unknown names give)"
"""The queue that cannot exist."""

CATALOGUE = (
    "English ImageToText", "Russian ImageToText", "Recaptcha Proxyless", "Recaptcha Proxy-on", "FunCaptcha", "Funcaptcha Proxyless",
    "Square Net Task", "GeeTest Proxy-on", "GeeTest Proxyless", "Turnstile Proxyless", "Turnstile Proxy-On", "hCaptcha Proxyless",
    "hCaptcha Proxy-On", "Recaptcha V3 s0.3", "Recaptcha V3 s0.7", "Recaptcha V3 s0.9",
)  # fmt: skip
"""Names attested as ``queue`` values, then names seen only as labels (third-party recordings; no complete list exists)."""

ALIKE = 5
"""So many windows in a row that fail with the same code stop the account."""

FAILED = 5 * ALIKE
"""So many windows in a row that fail with whatever code stop it too."""

FLOOR = date(2005, 1, 1)
"""No day before this is searched for the start of history: it is older than the service."""

NEAR = 1
"""A name is likely on a day at most so many days from a spell of it."""

FRESH = timedelta(minutes=10)
"""A name is measured against a total no older than this: an older one may have been corrected since."""

SPELL_GAP = 7
"""Days without spend that do not end a spell: a weekend or a holiday."""

FAR = Decimal(10**9)
"""How far a name is from the clue when no price of it is known."""

NO_SPEND_FACTOR = 10
"""Until any spend is known, history is searched for so many times ``empty_days``."""


# ---------------------------------------------------------------- what the walk is given


@dataclass(frozen=True, slots=True)
class Wishes:
    """What this run was asked for. ``since`` and ``until`` are inclusive; a ``since`` of None: until the start of history."""

    account: str
    today: date
    since: date | None = None
    until: date | None = None
    lookback: int = 3
    empty_days: int = 90
    queues: tuple[str, ...] = ()
    trusted: tuple[str, ...] = ()
    catalogue: tuple[str, ...] = CATALOGUE
    totals_only: bool = False
    concurrency: int = 4
    max_requests: int | None = None

    @property
    def newest(self) -> date:
        """The day the walk begins with."""
        return min(self.until or self.today, self.today)

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
    """What the warehouse knows of an account: ``days`` that were asked for, ``final`` ones among them, names and their beliefs."""

    days: Mapping[date, Verdict] = field(default_factory=dict)
    final: frozenset[date] = frozenset()
    spells: Mapping[str, tuple[Spell, ...]] = field(default_factory=dict)
    prices: Mapping[str, Decimal] = field(default_factory=dict)
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
    unknown_names: UnknownNames | None = None
    unknown_code: str | None = None


# ---------------------------------------------------------------- what the walk answers


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


# ---------------------------------------------------------------- what the walk remembers


@dataclass(frozen=True, slots=True)
class Open:
    """A day in progress.

    ``due`` names must be asked whatever the verdict; ``settled`` ones were answered or tried and are not asked again in this
    run; ``sent`` are the windows asked so far, ``flying`` those in the air.
    """

    day: date
    verdict: Verdict
    needs_total: bool
    due: frozenset[str] = frozenset()
    settled: frozenset[str] = frozenset()
    sent: frozenset[tuple[Filter, datetime]] = frozenset()
    flying: frozenset[tuple[Filter, datetime]] = frozenset()
    doubted: frozenset[tuple[Filter, datetime]] = frozenset()
    """Windows that were empty where spend is held, and so are asked once more."""
    asked_again: bool = False
    hunting: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """All the walk knows: a few days in progress, names, and how far back it has come."""

    wishes: Wishes
    unknown_names: UnknownNames | None
    unknown_code: str | None
    beliefs: Mapping[str, Belief]
    names: Set[str]
    """Every name worth asking."""
    spells: Mapping[str, tuple[Spell, ...]]
    todo: tuple[date, ...]
    """Days of the known range that need a visit, newest first."""
    held: Mapping[date, Verdict]
    """What was held of them when the run began."""
    prices: Mapping[str, Decimal]
    """What a task of a queue cost on the day last read of it, in dollars."""
    further: date | None
    """The next day older than all that is known; None: nothing further back is wanted."""
    oldest_spend: date | None
    """The oldest day with spend, or whose total failed: history is read until ``empty_days`` before it."""
    knows_a_total: bool
    open: Mapping[date, Open] = field(default_factory=dict)
    probe: Window | None = None
    probe_failed: bool = False
    hunt_was_fruitless: bool = False
    shut: tuple[date, ...] = ()
    """Days the last call of ``next`` or ``tell`` finished with."""
    visited: int = 0
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
    def doubts_names(self) -> bool:
        """Whether a good answer alone does not prove that a queue exists."""
        return self.unknown_names is UnknownNames.TOTALS

    @property
    def found_no_spend(self) -> bool:
        """Whether the search for the start of history ended without ever seeing spend."""
        return self.oldest_spend is None and self.wishes.since is None


def begin(wishes: Wishes, held: Held) -> State:
    """The state before the first request, from what is held."""
    spent = [day for day, verdict in held.days.items() if verdict.has_spend or TOTAL in verdict.failed]
    bottom = wishes.since or min([*held.days, wishes.newest])
    newest_first = (wishes.newest - timedelta(days=n) for n in range((wishes.newest - bottom).days + 1))
    beliefs = {**held.beliefs, **dict.fromkeys(wishes.trusted, Belief.BELIEVED)}
    names = _names(wishes, beliefs, held.spells)
    return State(
        wishes=wishes,
        unknown_names=held.unknown_names,
        unknown_code=held.unknown_code,
        beliefs=beliefs,
        names=names,
        spells=held.spells,
        prices=held.prices,
        todo=tuple(day for day in newest_first if _needs_visit(wishes, held, names, day)),
        held=held.days,
        further=None if wishes.since else bottom - timedelta(days=1),
        oldest_spend=min(spent, default=None),
        knows_a_total=any(verdict.total_asked for verdict in held.days.values()),
    )


def _needs_visit(wishes: Wishes, held: Held, names: Set[str], day: date) -> bool:
    verdict = held.days.get(day)
    if verdict is None or day not in held.final or wishes.is_recent(day):
        return True
    return not (verdict.explained or wishes.totals_only) and bool(names - verdict.asked.keys())


def _names(wishes: Wishes, beliefs: Mapping[str, Belief], spells: Mapping[str, tuple[Spell, ...]]) -> Set[str]:
    """Every name worth asking: named by the user, met before, or in the catalogue; none that was set aside."""
    known = {*wishes.queues, *beliefs, *spells, *wishes.catalogue}
    return {name for name in known if beliefs.get(name) is not Belief.SET_ASIDE}


# ---------------------------------------------------------------- next: what to ask


def next(state: State, room: int) -> tuple[State, Step]:
    """What to ask now, at most ``room`` windows; or wait for an answer; or the walk is over."""
    state = replace(state, shut=())
    if state.stopped:
        return state, Wait() if state.flying else Done(state.stopped)
    if state.wishes.max_requests is not None:
        room = min(room, state.wishes.max_requests - state.asked - state.retries)
    if not state.knows_a_total or _probe_is_wanted(state):
        return _alone(state, room)
    windows: list[Window] = []
    for day in sorted(state.open, reverse=True):
        if len(windows) < room:
            state = _asking(state, day, windows, room)
    while len(windows) < room and len(state.open) < state.wishes.days_at_once and (day_or_none := _next_day(state)):
        state = _asking(_opened(state, day_or_none), day_or_none, windows, room)
    return _step(state, windows)


def _step(state: State, windows: list[Window]) -> tuple[State, Step]:
    if windows:
        return replace(state, asked=state.asked + len(windows)), Ask(tuple(windows))
    if state.flying:
        return state, Wait()
    is_over = not state.open and _next_day(state) is None
    if not is_over and state.wishes.max_requests is None:
        raise AssertionError(f"the walk waits for nothing: {sorted(state.open)}")  # a defect: better loud than for ever
    return state, Done(Why.DONE if is_over else Why.LIMIT)


def _alone(state: State, room: int) -> tuple[State, Step]:
    """An account's first total, and then the name that cannot exist: nothing else is in the air."""
    windows: list[Window] = []
    if state.flying or room < 1:
        return _step(state, windows)
    if state.knows_a_total:
        day = max(day for day, plan in state.open.items() if _has_spend(plan))
        windows.append(Window.whole_day(state.wishes.account, queue(NO_SUCH_QUEUE), day))
        state = replace(state, probe=windows[0])
    elif day_or_none := _next_day(state):
        state = _asking(_opened(state, day_or_none), day_or_none, windows, 1)
    return _step(state, windows)


def _probe_is_wanted(state: State) -> bool:
    if state.unknown_names or state.probe_failed or state.wishes.totals_only:
        return False
    return state.probe is not None or any(_has_spend(plan) for plan in state.open.values())


def _has_spend(plan: Open) -> bool:
    """Whether there is a total beside which queues can be asked."""
    return plan.verdict.has_spend and plan.verdict.total_asked is not None and not plan.needs_total


def _next_day(state: State) -> date | None:
    """The newest day not yet visited: of the known range first, then further back until the history's start."""
    if state.todo:
        return state.todo[0]
    if state.further is None or state.further < FLOOR:
        return None
    if state.oldest_spend is None:
        limit = state.wishes.newest - timedelta(days=state.wishes.empty_days * NO_SPEND_FACTOR - 1)
    else:
        limit = state.oldest_spend - timedelta(days=state.wishes.empty_days)
    return state.further if state.further >= limit else None


def _opened(state: State, day: date) -> State:
    wishes, verdict = state.wishes, state.held.get(day, Verdict(day))
    asked_at = verdict.total_asked
    is_early = asked_at is None or asked_at < wishes.final_at(day)
    weighs_names = state.doubts_names and not verdict.explained  # a name is only measured against a fresh total
    plan = Open(day, verdict, is_early or wishes.is_recent(day) or TOTAL in verdict.failed or weighs_names)
    if not plan.needs_total:
        due = _read_before_final(wishes, verdict) | _failed_names(state, verdict)
        plan = replace(plan, due=due, settled=_answered(verdict) - due)
    state = replace(state, open={**state.open, day: plan})
    return replace(state, todo=state.todo[1:]) if state.todo else replace(state, further=day - timedelta(days=1))


def _asking(state: State, day: date, windows: list[Window], room: int) -> State:
    """Adds what the day wants to ask now to ``windows``, as far as there is room; shuts a day that wants nothing more."""
    plan = state.open[day]
    wanted = _wanted(state, plan)
    if wanted is None:
        return _shut(state, plan)
    chosen = wanted.windows[: max(0, room - len(windows))]
    if not chosen:
        return state
    windows += chosen
    sent = frozenset((window.filter, window.start) for window in chosen)
    plan = replace(plan, flying=plan.flying | sent, sent=plan.sent | sent, hunting=plan.hunting or wanted.hunting)
    return replace(state, open={**state.open, day: plan})


def _shut(state: State, plan: Open) -> State:
    still_open = {day: other for day, other in state.open.items() if day != plan.day}
    fruitless = not plan.verdict.explained if plan.hunting else state.hunt_was_fruitless
    shut = (*state.shut, plan.day)
    return replace(state, open=still_open, shut=shut, visited=state.visited + 1, hunt_was_fruitless=fruitless)


# ---------------------------------------------------------------- one day: what it wants to ask


class _Wanted(NamedTuple):
    """The windows a day wants now; with none of them it waits."""

    windows: tuple[Window, ...] = ()
    hunting: bool = False


def _wanted(state: State, plan: Open) -> _Wanted | None:
    """What a day wants to ask now; None: it wants nothing more."""
    if plan.needs_total:
        return _Wanted() if plan.flying else _Wanted((_window(state, plan, TOTAL),))
    if tails := _tails(state, plan, of=Cut.TOTAL):
        return _Wanted(tails)
    if _has_spend(plan) and not state.wishes.totals_only and not state.probe_failed:
        if state.unknown_names is None:
            return _Wanted()
        if wanted := _wanted_of_names(state, plan):
            return wanted
    return _Wanted() if plan.flying else None


def _wanted_of_names(state: State, plan: Open) -> _Wanted | None:
    in_the_air = {filter.member for filter, _ in plan.flying}
    if due := sorted(plan.due - in_the_air):
        return _ask_names(state, plan, due)
    if plan.verdict.explained:
        return None
    if plan.verdict.contradicted and plan.asked_again:
        tails = _tails(state, plan, of=Cut.QUEUE)
        return _Wanted(tails) if tails else None
    if not plan.verdict.closed and _is_to_come(state, plan.day - timedelta(days=1)):
        return _Wanted()
    unasked = state.names - plan.settled - in_the_air
    if likely := [name for name in state.spells if name in unasked and _distance(state, name, plan.day) <= NEAR]:
        return _ask_names(state, plan, sorted(likely))
    if not plan.verdict.closed or (plan.flying and not state.hunt_was_fruitless):
        return None
    if tails := _tails(state, plan, of=Cut.QUEUE):
        return _Wanted(tails)
    if not unasked:
        return None
    if any(day > plan.day and _may_hunt(newer) for day, newer in state.open.items()):
        return _Wanted()
    hunted = _by_likelihood(state, plan, unasked)
    return _ask_names(state, plan, hunted if state.hunt_was_fruitless else hunted[:1], hunting=True)


def _ask_names(state: State, plan: Open, names: Sequence[str], hunting: bool = False) -> _Wanted:
    return _Wanted(tuple(_window(state, plan, queue(name)) for name in names), hunting)


def _window(state: State, plan: Open, filter: Filter) -> Window:
    return Window.whole_day(state.wishes.account, filter, plan.day)


def _tails(state: State, plan: Open, of: Cut) -> tuple[Window, ...]:
    """Owed hours of a closed day, each asked once with ``date`` = that hour."""
    verdict = plan.verdict
    if not verdict.closed:
        return ()
    owed = [(filter, start) for filter, start in verdict.owed if filter.cut is of and filter not in verdict.failed]
    return tuple(
        replace(_window(state, plan, filter), start=start) for filter, start in owed if (filter, start) not in plan.sent
    )


def _is_to_come(state: State, day: date) -> bool:
    """Whether the walk is about to visit a day, or has not finished with it."""
    return day in state.open or day in state.todo[:1] or (not state.todo and day == _next_day(state))


def _may_hunt(plan: Open) -> bool:
    """Whether a day in progress may yet find a name; a running day does not hunt."""
    return plan.needs_total or plan.verdict.closed


def _by_likelihood(state: State, plan: Open, names: Set[str]) -> list[str]:
    """Names to hunt for, the likeliest first: by the price of the rest, by nearness, then the user's, then the catalogue's.

    A rest carries a clue. In an hour in which one unknown queue worked alone, its price per task is that queue's price.
    """
    order = [*state.wishes.queues, *state.wishes.catalogue]
    rank = {name: place for place, name in reversed(list(enumerate(order)))}
    clues = [rest.money / rest.volume for rest in plan.verdict.rests.values() if rest.volume > 0]

    def likelihood(name: str) -> tuple[Decimal, int, int, str]:
        price = state.prices.get(name)
        off = min((abs(clue - price) / price for clue in clues), default=FAR) if price else FAR
        return off, _distance(state, name, plan.day), rank.get(name, len(order)), name

    return sorted(names, key=likelihood)


def _distance(state: State, name: str, day: date) -> int:
    """Days to the name's nearest spell; beyond all history when it has none."""
    return min((spell.distance(day) for spell in state.spells.get(name, ())), default=date.max.toordinal())


def _read_before_final(wishes: Wishes, verdict: Verdict) -> frozenset[str]:
    """Names whose reading is too early for the day to be final, once its total is not."""
    deadline = wishes.final_at(verdict.day)
    if verdict.total_asked is None or verdict.total_asked < deadline:
        return frozenset()
    return frozenset(name for name in verdict.active if name not in verdict.asked or verdict.asked[name] < deadline)


def _failed_names(state: State, verdict: Verdict) -> frozenset[str]:
    """Names whose last attempt failed while the day needs them."""
    names = frozenset(filter.member for filter in verdict.failed if filter.member) if verdict.is_failed else frozenset()
    return frozenset(name for name in names if state.beliefs.get(name) is not Belief.SET_ASIDE)


def _answered(verdict: Verdict) -> frozenset[str]:
    return frozenset(name for name in verdict.asked if queue(name) not in verdict.failed)


# ---------------------------------------------------------------- tell: what an answered window taught


def judge(state: State, reading: Reading, verdict: Verdict) -> State:
    """What a reading says of its queue's name; to be asked before the day is folded, for only believed queues explain.

    ``verdict`` is the day's without this reading. Where unknown names give totals, a name is believed once it has answered
    anything but a closed day's total. What was once believed is never set aside: its window has failed.
    """
    name = reading.window.filter.member
    held = state.beliefs.get(name or "")
    if reading.window.filter.cut is not Cut.QUEUE or name is None or reading.window == state.probe or held is Belief.BELIEVED:
        return state
    if reading.outcome is Outcome.REFUSED:
        unknown = state.unknown_names is UnknownNames.ERROR and reading.code == state.unknown_code
        belief = Belief.SET_ASIDE if unknown or reading.effect is Effect.FILTER else None
    elif not reading.is_good:
        belief = None
    else:
        is_proved = not state.doubts_names or _is_not_the_total(reading, verdict)
        belief = Belief.BELIEVED if is_proved else Belief.DOUBTED
    if belief is None or belief is held:
        return state
    beliefs = {**state.beliefs, name: belief}
    return replace(state, beliefs=beliefs, names=_names(state.wishes, beliefs, state.spells))


def _is_not_the_total(reading: Reading, verdict: Verdict) -> bool:
    """Whether a closed day's answer differs from its total, read just before, in an hour that both speak for."""
    asked_at = verdict.total_asked
    if not verdict.closed or TOTAL in verdict.failed or asked_at is None or reading.asked_at - asked_at > FRESH:
        return False
    said = {record.hour_start: record.value for record in reading.records}
    spoken = [hour for hour in verdict.hours if not said or min(said) <= hour <= max(said)]
    return any(said.get(hour, ZERO) != verdict.hours[hour] for hour in spoken)


def tell(state: State, reading: Reading, verdict: Verdict) -> State:
    """Takes in one answered window and the fold of its day; a day that wants nothing more is shut."""
    state = _watched_for_trouble(replace(state, shut=()), reading)
    if reading.window == state.probe:
        state = _told_of_unknown_names(replace(state, probe=None), reading)
    elif plan := state.open.get(reading.window.day):
        before, plan = plan.verdict, replace(plan, flying=plan.flying - {(reading.window.filter, reading.window.start)})
        plan = _told_total(state, plan, reading, verdict) if reading.window.filter == TOTAL else _told_queue(plan, reading, verdict)
        plan = _doubting_emptiness(plan, reading, before)
        if verdict.contradicted and not (plan.flying or plan.due or plan.asked_again):
            plan = replace(plan, needs_total=True, due=verdict.active, settled=plan.settled - verdict.active, asked_again=True)
        state = replace(_learned(state, reading, verdict), open={**state.open, plan.day: plan})
        if _wanted(state, state.open[plan.day]) is None:
            state = _shut(state, state.open[plan.day])
    return state


def _told_total(state: State, plan: Open, reading: Reading, verdict: Verdict) -> Open:
    """A total came. Of a day read before it says which names have to be asked again beside it."""
    before, plan = plan.verdict, replace(plan, verdict=verdict, needs_total=False)
    if reading.window.is_tail or plan.asked_again or before.total_asked is None:
        return plan
    if not reading.is_good:
        return replace(plan, settled=_answered(verdict))
    failed, stale = _failed_names(state, verdict), _read_before_final(state.wishes, verdict)
    if _spend_by_hour(verdict) != _spend_by_hour(before) or (stale and not verdict.explained):
        return replace(plan, due=verdict.active | failed)
    due = stale if verdict.explained else verdict.active | failed
    return replace(plan, due=due, settled=_answered(verdict) - due)


def _doubting_emptiness(plan: Open, reading: Reading, before: Verdict) -> Open:
    """An answer without a record where spend is held is asked for once more before it is believed."""
    window, name = (reading.window.filter, reading.window.start), reading.window.filter.member
    held_spend = name in before.active if name else before.has_spend
    if not reading.is_good or reading.records or not held_spend or window in plan.doubted:
        return plan
    plan = replace(plan, doubted=plan.doubted | {window}, sent=plan.sent - {window})
    if reading.window.is_tail:
        return plan
    if name:
        return replace(plan, due=plan.due | {name}, settled=plan.settled - {name})
    return replace(plan, needs_total=True)


def _spend_by_hour(verdict: Verdict) -> dict[datetime, Value]:
    """The total's hours with spend: an idle hour more is no news."""
    return {hour: value for hour, value in verdict.hours.items() if value != ZERO}


def _told_queue(plan: Open, reading: Reading, verdict: Verdict) -> Open:
    name = {reading.window.filter.member or ""}
    return replace(plan, verdict=verdict, due=plan.due - name, settled=plan.settled | name)


def _told_of_unknown_names(state: State, reading: Reading) -> State:
    if reading.is_good:
        has_spend = any(record.value != ZERO for record in reading.records)
        return replace(state, unknown_names=UnknownNames.TOTALS if has_spend else UnknownNames.ZEROS)
    if reading.outcome is Outcome.REFUSED and reading.effect in (Effect.WINDOW, Effect.FILTER):
        return replace(state, unknown_names=UnknownNames.ERROR, unknown_code=reading.code)
    return replace(state, probe_failed=True)


def _watched_for_trouble(state: State, reading: Reading) -> State:
    """Stops the account at a fatal refusal, and at the same trouble on many windows in a row."""
    if reading.effect is Effect.ACCOUNT:
        return replace(state, stopped=Why.REFUSED, refusal=state.refusal or reading)
    is_expected = reading.window == state.probe or state.beliefs.get(reading.window.filter.member or "") is Belief.SET_ASIDE
    if reading.is_good or is_expected:
        return replace(state, alike=("", 0), failed=0)
    count, failed = state.alike[1] + 1 if state.alike[0] == reading.code else 1, state.failed + 1
    stopped = state.stopped or (Why.ALIKE if count >= ALIKE or failed >= FAILED else None)
    refusal = state.refusal or (reading if stopped else None)
    return replace(state, alike=(reading.code, count), failed=failed, stopped=stopped, refusal=refusal)


def _learned(state: State, reading: Reading, verdict: Verdict) -> State:
    """What one day teaches of the others: where spend was seen, and in which queues."""
    day, name = reading.window.day, reading.window.filter.member
    if reading.window.filter == TOTAL:
        breaks = verdict.has_spend or not reading.is_good
        oldest = min(state.oldest_spend or day, day) if breaks else state.oldest_spend
        return replace(state, oldest_spend=oldest, knows_a_total=state.knows_a_total or bool(reading.records) or reading.is_good)
    if name is None or name not in verdict.active or state.beliefs.get(name) is not Belief.BELIEVED:
        return state
    volume, money = sum(record.volume for record in reading.records), sum(record.money for record in reading.records)
    return replace(
        state,
        spells={**state.spells, name: with_day(state.spells.get(name, ()), day)},
        prices={**state.prices, name: Decimal(money) / volume} if volume > 0 and money > 0 else state.prices,
    )


def with_day(spells: tuple[Spell, ...], day: date) -> tuple[Spell, ...]:
    """Spells with one more day of spend in them: the nearest one grows, if it is near enough."""
    near = [spell for spell in spells if spell.distance(day) <= SPELL_GAP]
    others = tuple(spell for spell in spells if spell not in near)
    merged = Spell(min([day, *(spell.first for spell in near)]), max([day, *(spell.last for spell in near)]))
    return tuple(sorted((*others, merged)))


def see_anew(state: State, verdict: Verdict) -> State:
    """A held day was folded again, because a name has come to be believed."""
    plan = state.open.get(verdict.day)
    if plan is None:
        return replace(state, held={**state.held, verdict.day: verdict})
    return replace(state, open={**state.open, plan.day: replace(plan, verdict=verdict)})


def lost(state: State) -> State:
    """A window in the air was given up because the account was stopped: nothing is waited for any more."""
    return replace(state, open={}, probe=None)


# ---------------------------------------------------------------- forecast: what a run would ask


class Expected(NamedTuple):
    """Days and requests ahead; ``at_most`` is None while the start of history is unknown."""

    days: int
    at_least: int
    at_most: int | None


def forecast(state: State) -> Expected:
    """The walk's view before its first request: at least when nothing has changed, at most when everything must be asked."""
    least = most = 0
    names = 0 if state.wishes.totals_only else len(state.names)
    days = len(state.todo)
    while state.todo:
        day = state.todo[0]
        state = _opened(state, day)
        plan = state.open[day]
        state = replace(state, open={})
        least += plan.needs_total + len(plan.due)
        most += plan.needs_total + len(plan.due) + names
    further = _days_further(state)
    if state.unknown_names is None and not state.wishes.totals_only:
        most += 1
    return Expected(days + further, least + further, None if further else most)


def _days_further(state: State) -> int:
    """Days that will be read beyond the known range even if no more spend is found there."""
    count = 0
    while day := _next_day(state):
        state = replace(state, further=day - timedelta(days=1))
        count += 1
    return count
