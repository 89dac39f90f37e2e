"""Gathering for the mind: settings become wishes, rows and kept answers become verdicts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime

from etl.extract import walk, wire
from etl.load.ledger import Ledger, StoredReading
from etl.records import Answer, Belief, Cut, Fact, Filter, Lesson, Outcome, Reading, Record, Spell, Unknown, Value, app, ip, queue
from etl.settings import Settings
from etl.transform import validate
from etl.transform.fold import Book, Folded, fold


def wishes(settings: Settings, now: datetime, since: date | None) -> walk.Wishes:
    """What this run was asked for; ``since`` is what was said now or is remembered."""
    return walk.Wishes(
        account=settings.account,
        today=now.date(),
        since=since,
        until=settings.until,
        lookback=settings.lookback,
        empty_days=settings.empty_days,
        named=_filters(settings.queues, settings.soft_ids, settings.ips),
        trusted=_filters(settings.trusted_queues, settings.trusted_soft_ids, settings.trusted_ips),
        by_hand=_named_by_hand(settings),
        totals_only=settings.totals_only,
        concurrency=settings.concurrency,
        max_requests=settings.max_requests,
    )


def _filters(queues: Iterable[str], soft_ids: Iterable[str], ips: Iterable[str]) -> tuple[Filter, ...]:
    return (*map(queue, queues), *map(app, soft_ids), *map(ip, ips))


@dataclass(frozen=True, slots=True)
class Light:
    """In what light readings are seen: the account's grid, how far its answers reach, and what is thought of names."""

    grid: int | None = None
    reaches_end: int | None = None
    beliefs: Mapping[Filter, Belief] = field(default_factory=dict)
    lessons: Mapping[Cut, Lesson] = field(default_factory=dict)

    def on(self, book: Book) -> Book:
        """The book seen in this light."""
        asked = {reading.window.filter for reading in book.readings}
        return replace(
            book,
            grid=self.grid or 0,
            reaches_end=self.reaches_end,
            ignored=frozenset(filter for filter in asked if self.ignores(filter)),
            doubted=frozenset(filter for filter in asked if self.doubts(filter)),
            ended=frozenset(filter for filter in asked if self.beliefs.get(filter) is Belief.ENDED),
        )

    def ignores(self, filter: Filter) -> bool:
        """Whether the filter is nobody's: it cannot exist, or was set aside."""
        return filter in walk.NO_SUCH.values() or self.beliefs.get(filter) is Belief.SET_ASIDE

    def doubts(self, filter: Filter) -> bool:
        """Whether the filter does not count. Where a good answer proves no name, none does until it is believed."""
        belief, lesson = self.beliefs.get(filter), self.lessons.get(filter.cut)
        if belief is None:
            return lesson is not None and lesson.gives is Unknown.TOTALS
        return belief is Belief.DOUBTED

    def counts(self, filter: Filter) -> bool:
        """Whether what the filter answered is booked."""
        return not self.ignores(filter) and not self.doubts(filter)


@dataclass(slots=True)
class Day:
    """One day in hand: its readings, their fold, and what the warehouse held of it when the run first touched it."""

    book: Book
    folded: Folded
    held: Folded


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is held: for the walk, as days in hand that will be read again, in what light, and what was thought of names."""

    held: walk.Held
    days: dict[date, Day]
    light: Light
    stored: Mapping[Filter, Belief]


def gathered(ledger: Ledger, wishes: walk.Wishes) -> Gathered:
    """Days that will be read again are folded from their readings, the others are told by their rows."""
    cuts = {filter.cut for filter in wishes.named} - {Cut.QUEUE}
    coverage = ledger.coverage(cuts)
    account = ledger.account
    unproved = dict.fromkeys(coverage.vouched - {*wishes.trusted}, Belief.DOUBTED)  # whom the user vouched for, and no longer does
    beliefs = walk.with_trust({**coverage.beliefs, **unproved}, wishes.trusted)
    light = Light(account.grid, account.reaches_end, beliefs, account.lessons)
    reread = [day for day in coverage.known.keys() - coverage.frozen if day not in coverage.final or wishes.is_recent(day)]
    days = load_days(ledger, reread, light)
    held = walk.Held(
        days={**coverage.known, **{day: found.folded.verdict for day, found in days.items()}},
        final=coverage.final,
        frozen=coverage.frozen,
        beliefs=beliefs,
        lessons=account.lessons,
    )
    return Gathered(_with_neighbours(ledger, held, walk.begin(wishes, held)), days, light, coverage.beliefs)


def _named_by_hand(settings: Settings) -> frozenset[Filter]:
    """Names that stand on the command line: a person asks for them now."""

    def said(setting: str, names: tuple[str, ...]) -> tuple[str, ...]:
        return names if settings.sources.get(setting, "").startswith("--") else ()

    return frozenset(_filters(said("queues", settings.queues), said("soft_ids", settings.soft_ids), said("ips", settings.ips)))


def _with_neighbours(ledger: Ledger, held: walk.Held, state: walk.State) -> walk.Held:
    """When names spent around the days that will be visited, and what; of queues not seen there, their last day."""
    spells: dict[Filter, tuple[Spell, ...]] = {}
    last: dict[Filter, Value] = {}
    around = ledger.spending([*state.todo, *([state.further] if state.further else [])])
    for filter, day, spent in (*ledger.last_spending(), *around):
        spells[filter] = walk.with_day(spells.get(filter, ()), day)
        if walk.tells_price(spent):
            last[filter] = spent
    return replace(held, spells=spells, spent=last)


def load_days(ledger: Ledger, days: Iterable[date], light: Light) -> dict[date, Day]:
    """Some held days with all their readings, folded, and their facts as they stand."""
    wanted = sorted(days)
    books = {day: Book(day) for day in wanted}
    facts = ledger.facts(wanted)
    for stored in ledger.readings(wanted):
        day = stored.window.day
        reading = _stand_in(stored, facts.get(day, ())) if stored.is_gone else read_again(stored, light.grid)
        books[day] = books[day].with_readings([reading])
    found = {}
    for day in wanted:
        book = light.on(books[day])
        folded = fold(book)
        held = replace(folded, booked={(fact.filter, fact.hour_start): fact for fact in facts.get(day, ())})
        found[day] = Day(book, folded, held)
    return found


def _stand_in(stored: StoredReading, facts: Iterable[Fact]) -> Reading:
    """For a reading whose answer is lost: what is booked of it stays booked, and as it counts as failed it is asked for anew."""
    own = [fact for fact in facts if (fact.reading, fact.filter) == (stored.number, stored.window.filter)]
    records = tuple(sorted(Record(fact.hour_start, fact.volume, fact.money) for fact in own))
    outcome = Outcome.PARTIAL if records else Outcome.BROKEN
    return Reading(stored.number, stored.window, stored.asked_at, outcome, records, code="answer_lost")


def read_again(stored: StoredReading, grid: int | None) -> Reading:
    """A reading as it was when it came: its answer, which must not be lost, goes the same way again."""
    as_it_was = Reading(stored.number, stored.window, stored.asked_at, stored.outcome, code=stored.code, message=stored.message)
    if stored.body is None or stored.outcome is Outcome.REFUSED:
        return as_it_was
    reply = wire.read(stored.status or 0, stored.body)
    again = validate.read(Answer(stored.window, stored.asked_at, reply, stored.status, stored.body), stored.number, grid)
    # What was broken on the way, not in its body, cannot be read again: its code is not that of what is left of it.
    is_said_by_body = again.outcome is not Outcome.BROKEN or again.code == stored.code
    return again if stored.outcome is not Outcome.BROKEN or is_said_by_body else as_it_was
