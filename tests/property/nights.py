"""Syncs of one account, night after night, and what the warehouse would hold after each: the pipeline without its doors.

No thread, no clock, no database, no HTTP: the walk, the fold and whatever ``read`` makes of a window.
"""

import random
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import replace
from datetime import date, datetime, timedelta

from etl.extract import walk
from etl.extract.walk import NO_SUCH, Ask, Done, Held, Why, Wishes
from etl.records import HOUR, TOTAL, ZERO, Belief, Cut, Filter, Lesson, Reading, Spell, Split, Unknown, Value, Verdict, Window
from etl.transform import validate
from etl.transform.fold import Book, Folded, fold, nothing

NEIGHBOURHOOD = timedelta(days=31)
"""Spells are looked up this far around the days that need a visit."""


class Nights:
    """An account's readings and their folds, as committed; ``final`` days are told to the walk by their rows alone.

    ``now`` is the service's and ours; it passes by ``pause`` with every answer. Answers land in any order.
    """

    def __init__(self, now: datetime, chance: random.Random) -> None:
        self.now = now
        self.random = chance
        self.grid: int | None = None
        self.reaches_end: int | None = None
        self.number = 0
        self.books: dict[date, Book] = {}
        self.folds: dict[date, Folded] = {}
        self.final: set[date] = set()
        self.beliefs: Mapping[Filter, Belief] = {}
        self.lessons: Mapping[Cut, Lesson] = {}
        self.spent: dict[date, dict[Filter, Value]] = {}
        self.asked: list[Window] = []
        self.useful: set[tuple[date, Filter]] = set()
        self._rows: dict[date, Verdict] = {}
        self._hand: dict[date, Folded] = {}
        self.state = walk.begin(Wishes("default", now.date()), Held())

    # -- what a test of its own gives

    def read(self, window: Window, asked_at: datetime) -> Reading:
        """The reading of one window, asked at ``asked_at`` and landing now, under ``number``."""
        raise NotImplementedError

    def pause(self) -> timedelta:
        """What passes until the next answer lands."""
        return timedelta(milliseconds=10)

    def commit(self, day: date, folded: Folded) -> None:
        """A day's fold is written, with the note that it is."""
        self.folds[day] = folded
        spent: dict[Filter, Value] = {}
        for fact in folded.facts.values():
            if fact.filter != TOTAL and not fact.filter.is_rest:
                volume, money = spent.get(fact.filter, ZERO)
                spent[fact.filter] = Value(volume + fact.volume, money + fact.money)
        self.spent[day] = spent
        self._rows.pop(day, None)
        verdict = folded.verdict
        is_read = verdict.read_since(self.state.wishes.final_at(day)) and not verdict.is_failed
        (self.final.add if is_read and self._is_settled(day) else self.final.discard)(day)

    # -- one night

    def sync(self, wishes: Wishes, kill_after: int | None = None) -> Why | None:
        """One sync. None: it was killed after so many answers, with what was in the air."""
        self._begin(wishes)
        air: list[tuple[Window, datetime]] = []
        for _ in range(200_000):
            self.state, step = walk.next(self.state, wishes.concurrency - len(air))
            self._settle()
            if isinstance(step, Done):
                return step.why
            if isinstance(step, Ask):
                self.asked += step.windows
                air += ((window, self.now) for window in step.windows)
                if len(air) < wishes.concurrency:
                    continue
            assert air, "the walk waits for an answer that nobody asked for"
            if kill_after is not None and (kill_after := kill_after - 1) < 0:
                return None
            self._land([air.pop(self.random.randrange(len(air))) for _ in range(self.random.choice((1, 1, len(air))))])
        raise AssertionError("the walk does not end")

    def _begin(self, wishes: Wishes) -> None:
        self.asked, self.useful = [], set()
        self._finished: set[date] = set()
        self._held_final = frozenset(self.final)
        stored, self.beliefs = self.beliefs, walk.with_trust(self.beliefs, wishes.trusted)
        reread = [day for day in self.books if day not in self.final or wishes.is_recent(day)]
        self._hand = {day: self._folded(day) for day in reread}
        held = Held(
            days={day: self._hand[day].verdict if day in self._hand else self._row(day) for day in sorted(self.books)},
            final=self._held_final,
            beliefs=self.beliefs,
            lessons=self.lessons,
        )
        self.state = walk.begin(wishes, self._with_neighbours(held, walk.begin(wishes, held)))
        self._see_anew(stored)

    def _land(self, landed: Iterable[tuple[Window, datetime]]) -> None:
        """Windows that are answered at one moment."""
        readings = []
        for window, asked_at in landed:
            self.now += self.pause()
            if self.state.stopped and self.random.random() < 0.5:
                self.state = walk.lost(self.state)
                continue
            self.number += 1
            readings.append(self.read(window, asked_at))
            self._learn_habits(readings[-1])
        for group in walk.together(readings):
            self._land_together(group)

    def _land_together(self, readings: Sequence[Reading]) -> None:
        before, day = self.beliefs, readings[0].window.day
        held = self._in_hand(day).verdict
        for reading in readings:
            self.state = walk.judge(self.state, reading, held)
        self.beliefs = self.state.names.beliefs
        self.books[day] = self.books.get(day, Book(day)).with_readings(readings)
        self._hand[day] = self._folded(day)
        verdict = self._hand[day].verdict
        for reading in readings:
            self.state = walk.tell(self.state, reading, verdict)
            self.lessons = self.state.names.lessons
            if reading.window.filter == TOTAL or reading.window.filter in verdict.active:
                self.useful.add((day, reading.window.filter))
            if day in self._hand:
                self.commit(day, self._hand[day])
            self._settle()
        self._see_anew(before, but=day)

    def _learn_habits(self, reading: Reading) -> None:
        """The account's grid is that of its first good total; its answers reach the day's end from the first that did."""
        window = reading.window
        if not reading.is_good or window.filter != TOTAL:
            return
        if self.grid is None:
            self.grid = validate.grid_of(window, reading)
        last_hour = window.end - HOUR + timedelta(seconds=self.grid or 0)
        if self.reaches_end is None and not window.is_tail and last_hour in {record.hour_start for record in reading.records}:
            self.reaches_end = reading.number

    def _in_hand(self, day: date) -> Folded:
        if day not in self._hand:
            self._hand[day] = self._folded(day) if day in self.books else nothing(day)
        return self._hand[day]

    def _settle(self) -> None:
        self._finished.update(self.state.shut)
        for day in self.state.shut:
            self.commit(day, self._in_hand(day))
            del self._hand[day]

    def _is_settled(self, day: date) -> bool:
        return day in self._finished or day in self._held_final

    def _see_anew(self, before: Mapping[Filter, Belief], but: date | None = None) -> None:
        """The money of names that count since now, or no longer, is booked anew on all days they were asked for."""
        now = self.beliefs
        changed = {filter for filter in before if before[filter].is_booked != (filter in now and now[filter].is_booked)}
        for day in list(self.books) if changed else ():
            asked_for = any(reading.is_good and reading.window.filter in changed for reading in self.books[day].readings)
            if day == but or not (asked_for or day in self._hand):
                continue
            folded = self._folded(day)
            if day in self._hand:
                self._hand[day] = folded
            self.state = walk.see_anew(self.state, folded.verdict)
            self.commit(day, folded)

    def _folded(self, day: date) -> Folded:
        """The fold of a day's readings in the light of what is thought of names now."""
        asked = {reading.window.filter for reading in self.books[day].readings}
        thought = {belief: frozenset(filter for filter, held in self.beliefs.items() if held is belief) for belief in Belief}
        booked = thought[Belief.BELIEVED] | thought[Belief.ENDED]
        doubting = {cut for cut, lesson in self.lessons.items() if lesson.gives is Unknown.TOTALS}
        return fold(
            replace(
                self.books[day],
                grid=self.grid or 0,
                reaches_end=self.reaches_end,
                ignored=thought[Belief.SET_ASIDE] | {*NO_SUCH.values()},
                doubted=frozenset(filter for filter in asked - booked if filter.cut in doubting),
                ended=thought[Belief.ENDED],
            )
        )

    # -- what the warehouse tells the walk

    def _row(self, day: date) -> Verdict:
        """A final day's verdict as its row tells it: without hours."""
        if day not in self._rows:
            self._rows[day] = _told_by_row(self.folds[day].verdict)
        return self._rows[day]

    def _with_neighbours(self, held: Held, state: walk.State) -> Held:
        """Spells and prices around the days that will be visited; of queues not seen there, when they were last."""
        visited = [*state.todo, *([state.further] if state.further else [])]
        days = {near + timedelta(days=n) for near in visited for n in range(-NEIGHBOURHOOD.days, NEIGHBOURHOOD.days + 1)}
        around = [(filter, day, spent) for day in sorted(days & self.spent.keys()) for filter, spent in self.spent[day].items()]
        last: dict[Filter, tuple[Filter, date, Value]] = {}
        for day in sorted(self.spent):
            for filter, spent in self.spent[day].items():
                if filter.cut is Cut.QUEUE and spent.volume > 0 and spent.money > 0:
                    last[filter] = filter, day, spent
        spells: dict[Filter, tuple[Spell, ...]] = {}
        latest: dict[Filter, Value] = {}
        for filter, day, spent in (*last.values(), *around):
            spells[filter] = walk.with_day(spells.get(filter, ()), day)
            if walk.tells_price(spent):
                latest[filter] = spent
        return replace(held, spells=spells, spent=latest)


def _told_by_row(verdict: Verdict) -> Verdict:
    def keeps(cut: Cut) -> bool:
        return cut is not Cut.QUEUE or not verdict.explained

    contradicted: Set[Cut] = verdict.contradicted if verdict.closed else frozenset()
    asked = {filter: at for filter, at in verdict.asked.items() if filter != TOTAL and keeps(filter.cut)}
    splits = {
        cut: Split(
            split.rest if cut is Cut.QUEUE else ZERO,
            split.explained if cut is Cut.QUEUE else split.rest == ZERO and cut not in contradicted,
            cut in contradicted,
        )
        for cut, split in verdict.splits.items()
    }
    return Verdict(verdict.day, verdict.total, verdict.total_asked, verdict.closed, splits, asked=asked)
