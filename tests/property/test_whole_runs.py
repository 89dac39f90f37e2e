"""Nights of syncs against the stand-in's own decisions, whatever it does where its documentation is silent.

No thread, no clock, no database, no HTTP: the walk, the wire, the fold and the sandbox's bytes. After every night each hour
sums to exactly the total last given for it, no queue holds money that is not its own, and the walk has ended.
"""

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from etl.extract import walk, wire
from etl.extract.walk import NO_SUCH_QUEUE, Ask, Done, Held, Why, Wishes
from etl.records import (
    TOTAL,
    Answer,
    Belief,
    Cut,
    Outcome,
    Reading,
    Refusal,
    Secret,
    Unreachable,
    Value,
    Verdict,
    Window,
    queue,
)
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import METHOD, Behaviour, Sandbox
from etl.transform import validate
from etl.transform.fold import Book, Folded, fold

TODAY = date(2026, 11, 22)
NAMES = ("Alpha", "Beta", "Gamma", "Delta")
KEY = Secret("a-key-for-the-sandbox")


@dataclass
class World:
    """A stand-in that stands still between requests, and what a warehouse of its answers would hold.

    Its repr tells the service's habits and, after a run, what was asked and answered: hypothesis shows it.
    """

    sandbox: Sandbox
    now: datetime
    random: random.Random
    trouble: float
    grid: int | None = None
    books: dict[date, Book] = field(default_factory=dict)
    state: walk.State | None = None
    number: int = 0
    said: list[str] = field(default_factory=list)

    def __repr__(self) -> str:
        return "\n".join([repr(self.sandbox.behaviour), repr(self.sandbox.dataset), *self.said])

    def night(self, wishes: Wishes) -> Why:
        """One sync. Answers land in any order; some windows fail."""
        state = walk.begin(wishes, self.held(wishes))
        air: list[Window] = []
        for _ in range(20_000):
            state, step = walk.next(state, wishes.concurrency - len(air))
            if isinstance(step, Done):
                self.state = state
                return step.why
            if isinstance(step, Ask):
                air += step.windows
                if len(air) < wishes.concurrency:
                    continue
            state = self.take(state, air.pop(self.random.randrange(len(air))))
        raise AssertionError("the walk does not end")

    def take(self, state: walk.State, window: Window) -> walk.State:
        self.number += 1
        self.now += timedelta(seconds=1)
        reading = validate.read(self.ask(window), self.number, self.grid)
        if self.grid is None and reading.is_good and window.filter == TOTAL:
            self.grid = validate.grid_of(window, reading)
        self.books.setdefault(window.day, Book(window.day))
        before, state = state.beliefs, walk.judge(state, reading, self.fold(window.day, state).verdict)
        self.books[window.day] = self.books[window.day].with_reading(reading)
        tasks = [record.volume for record in reading.records]
        came = f"{reading.outcome} {reading.code}, {len(tasks)} hours, {sum(tasks)} tasks"
        self.said.append(f"{self.now:%d %H:%M:%S} {window}: {came}")
        state = walk.tell(state, reading, self.fold(window.day, state).verdict)
        if any(before.get(name) is Belief.DOUBTED and belief is Belief.BELIEVED for name, belief in state.beliefs.items()):
            for day in self.books:
                state = walk.see_anew(state, self.fold(day, state).verdict)
        return state

    def ask(self, window: Window) -> Answer:
        if self.random.random() < self.trouble:
            broken = Unreachable(f"trouble {self.random.randrange(9)}", "for a test")
            return Answer(window, self.now, broken)
        reply = self.sandbox.decide(METHOD, wire.body(window, KEY))
        return Answer(window, self.now, wire.read(reply.status, reply.body), reply.status, reply.body)

    def fold(self, day: date, state: walk.State | None) -> Folded:
        beliefs = state.beliefs if state else {}
        doubts = state is not None and state.doubts_names
        doubted = frozenset(name for name, belief in beliefs.items() if doubts and belief is Belief.DOUBTED)
        aside = frozenset(name for name, belief in beliefs.items() if belief is Belief.SET_ASIDE)
        return fold(replace(self.books[day], grid=self.grid or 0, doubted=doubted, ignored=aside | {NO_SUCH_QUEUE}))

    def held(self, wishes: Wishes) -> Held:
        verdicts: dict[date, Verdict] = {day: self.fold(day, self.state).verdict for day in self.books}
        final = {day for day, verdict in verdicts.items() if not verdict.is_failed and verdict.read_by(wishes.final_at(day))}
        state = self.state
        if state is None:
            return Held()
        return Held(
            verdicts, frozenset(final), state.spells, state.prices, state.beliefs, state.unknown_names, state.unknown_code
        )


@st.composite
def worlds(draw: st.DrawFn) -> World:
    begins = TODAY - timedelta(days=draw(st.integers(2, 9)))
    dataset = Dataset(
        seed=draw(st.integers(0, 10**6)),
        begins=begins,
        queues=NAMES[: draw(st.integers(1, 4))],
        idle_hours=draw(st.sampled_from([0, 40, 90])),
        idle_weeks=0,
        turnover=False,
        spells=draw(st.sampled_from([None, (2, 1)])),
        corrections=draw(st.booleans()),
    )
    behaviour = Behaviour(
        idle=draw(st.sampled_from(["zero", "omit"])),
        buckets=draw(st.sampled_from([23, 24, 25])),
        numbers=draw(st.sampled_from(["number", "string", "noise"])),
        listed=draw(st.sampled_from(["array", "object"])),
        unknown_queue=draw(st.sampled_from(["error", "zeros", "totals"])),
        running=draw(st.booleans()),
        duplicates=draw(st.sampled_from(["none", "identical", "differing"])),
    )
    world = World(
        Sandbox(dataset, behaviour),
        datetime(2026, 11, 22, draw(st.integers(0, 23)), draw(st.integers(0, 59)), tzinfo=UTC),
        random.Random(draw(st.integers(0, 10**6))),
        draw(st.sampled_from([0, 0, 0.05, 0.3])),
    )
    world.sandbox._now = lambda: world.now
    return world


def totals_last_given(world: World, day: date) -> Iterator[tuple[datetime, Value]]:
    """The latest record of a total for each hour, straight from the readings."""
    given: dict[datetime, tuple[datetime, Value]] = {}
    for reading in world.books[day].readings:
        if reading.window.filter == TOTAL and reading.outcome in (Outcome.GOOD, Outcome.PARTIAL):
            for record in reading.records:
                if record.hour_start not in given or reading.asked_at >= given[record.hour_start][0]:
                    given[record.hour_start] = (reading.asked_at, record.value)
    return ((hour, value) for hour, (_, value) in given.items())


def check(world: World) -> None:
    readings: dict[int, Reading] = {reading.number: reading for book in world.books.values() for reading in book.readings}
    for day in world.books:
        folded = world.fold(day, world.state)
        sums: dict[datetime, Value] = {}
        for (filter, hour), fact in folded.facts.items():
            if filter.cut is Cut.QUEUE:
                volume, money = sums.get(hour, Value(0, Decimal(0)))
                sums[hour] = Value(volume + fact.volume, money + fact.money)
            if filter.cut is Cut.QUEUE and filter.member is not None:
                assert filter.member in world.sandbox.dataset.names, "a queue that does not exist holds money"
                own = world.sandbox.dataset.day(
                    (day - date(1970, 1, 1)).days, int(readings[fact.reading].asked_at.timestamp()), filter.member
                )[hour.hour]
                assert (fact.volume, fact.money) == (int(own[0]), Decimal(own[1])), "a queue holds money that is not its own"
        for hour, value in totals_last_given(world, day):
            if reading_zero_later(world, day, hour):
                continue
            assert sums.get(hour, Value(0, Decimal(0))) == value, (day, hour)


def reading_zero_later(world: World, day: date, hour: datetime) -> bool:
    """Whether a later total left the hour out and so said that it is zero."""
    total = world.fold(day, world.state).facts.get((TOTAL, hour))
    return total is not None and total.volume == 0 and total.money == 0


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.lists(st.sampled_from([1, 5, 24, 24, 72]), min_size=1, max_size=4), st.integers(1, 6), st.booleans())
def test_every_hour_sums_to_the_total_last_given_for_it_and_no_queue_holds_what_is_not_its_own(
    world: World, pauses: list[int], concurrency: int, knows_all: bool
) -> None:
    for pause in pauses:
        catalogue = (*(NAMES if knows_all else NAMES[:2]), "Alpah")
        wishes = Wishes("default", world.now.date(), empty_days=3, lookback=2, catalogue=catalogue, concurrency=concurrency)
        why = world.night(wishes)
        assert why in (Why.DONE, Why.ALIKE)
        try:
            check(world)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{world}") from error
        world.now += timedelta(hours=pause)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(worlds(), st.integers(1, 6))
def test_when_nothing_fails_and_every_name_is_known_closed_days_are_explained(world: World, concurrency: int) -> None:
    world.trouble = 0
    world.sandbox.dataset = replace(world.sandbox.dataset, corrections=False)
    wishes = Wishes("default", world.now.date(), empty_days=3, catalogue=NAMES, concurrency=concurrency)
    assert world.night(wishes) is Why.DONE
    state = world.state
    assert state is not None
    in_doubt = state.doubts_names and Belief.DOUBTED in state.beliefs.values()  # it only ever gave the day's total
    for day in world.books:
        verdict = world.fold(day, state).verdict
        assert verdict.explained or not verdict.closed or in_doubt, (day, verdict, world)


def test_a_refusal_is_what_the_sandbox_gives_for_a_name_that_cannot_exist() -> None:
    reply = Sandbox(Dataset()).decide(METHOD, wire.body(Window.whole_day("default", queue(NO_SUCH_QUEUE), TODAY), KEY))
    assert isinstance(wire.read(reply.status, reply.body), Refusal)
