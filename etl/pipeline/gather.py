"""Gathering for the mind: settings become wishes, rows and kept answers become verdicts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import date, datetime
from decimal import Decimal

from etl.errors import WarehouseError
from etl.extract import walk, wire
from etl.load.ledger import Ledger, StoredReading
from etl.records import Answer, Belief, Outcome, Reading, Spell, UnknownNames
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
        queues=settings.queues,
        trusted=settings.trusted_queues,
        totals_only=settings.totals_only,
        concurrency=settings.concurrency,
        max_requests=settings.max_requests,
    )


@dataclass(frozen=True, slots=True)
class Light:
    """In what light readings are seen: the account's grid, and what is thought of queue names."""

    grid: int | None = None
    beliefs: Mapping[str, Belief] = field(default_factory=dict)
    unknown_names: UnknownNames | None = None

    def on(self, book: Book) -> Book:
        """The book seen in this light."""
        aside = frozenset(name for name, belief in self.beliefs.items() if belief is Belief.SET_ASIDE)
        doubted = frozenset(name for name, belief in self.beliefs.items() if belief is Belief.DOUBTED)
        doubts_names = self.unknown_names is UnknownNames.TOTALS
        return replace(
            book, grid=self.grid or 0, ignored=aside | {walk.NO_SUCH_QUEUE}, doubted=doubted if doubts_names else frozenset()
        )


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
    stored: Mapping[str, Belief]


def gathered(ledger: Ledger, wishes: walk.Wishes, settings: Settings) -> Gathered:
    """Days that will be read again are folded from their readings, the others are told by their rows."""
    coverage = ledger.coverage()
    account = ledger.account
    beliefs = {**_worth_another_try(coverage.beliefs, settings), **dict.fromkeys(wishes.trusted, Belief.BELIEVED)}
    light = Light(account.grid, beliefs, account.unknown_names)
    reread = [day for day in coverage.known if day not in coverage.final or wishes.is_recent(day)]
    days = load_days(ledger, reread, light)
    held = walk.Held(
        days={**coverage.known, **{day: found.folded.verdict for day, found in days.items()}},
        final=coverage.final,
        beliefs=beliefs,
        unknown_names=account.unknown_names,
        unknown_code=account.unknown_code,
    )
    return Gathered(_with_neighbours(ledger, held, walk.begin(wishes, held)), days, light, coverage.beliefs)


def _worth_another_try(beliefs: Mapping[str, Belief], settings: Settings) -> dict[str, Belief]:
    """Beliefs without those set aside that the command line names: a person asked for them."""
    by_hand = settings.queues if settings.sources.get("queues", "").startswith("--") else ()
    return {name: belief for name, belief in beliefs.items() if belief is not Belief.SET_ASIDE or name not in by_hand}


def _with_neighbours(ledger: Ledger, held: walk.Held, state: walk.State) -> walk.Held:
    """Spells and prices of queues around the days that will be visited."""
    spells: dict[str, tuple[Spell, ...]] = {}
    prices: dict[str, Decimal] = {}
    for name, day, spent in ledger.spending([*state.todo, *([state.further] if state.further else [])]):
        spells[name] = walk.with_day(spells.get(name, ()), day)
        if spent.volume > 0 and spent.money > 0:
            prices[name] = spent.money / spent.volume
    return replace(held, spells=spells, prices=prices)


def load_days(ledger: Ledger, days: Iterable[date], light: Light) -> dict[date, Day]:
    """Some held days with all their readings, folded, and their facts as they stand."""
    wanted = sorted(days)
    books = {day: light.on(Book(day)) for day in wanted}
    for stored in ledger.readings(wanted):
        books[stored.window.day] = books[stored.window.day].with_reading(_read_again(stored, light.grid))
    facts = ledger.facts(wanted)
    found = {}
    for day, book in books.items():
        folded = fold(book)
        held = replace(folded, facts={(fact.filter, fact.hour_start): fact for fact in facts.get(day, ())})
        found[day] = Day(book, folded, held)
    return found


def _read_again(stored: StoredReading, grid: int | None) -> Reading:
    """A reading as it was when it came: its answer goes the same way again. Raises WarehouseError when that is gone."""
    if stored.body is None and stored.outcome in (Outcome.GOOD, Outcome.PARTIAL):
        raise WarehouseError(f"the answer to {stored.window} (reading {stored.number}) is gone", "restore it from a copy")
    if stored.body is None or stored.outcome not in (Outcome.GOOD, Outcome.PARTIAL):
        return Reading(stored.number, stored.window, stored.asked_at, stored.outcome, code=stored.code, message=stored.message)
    reply = wire.read(stored.status or 0, stored.body)
    return validate.read(Answer(stored.window, stored.asked_at, reply, stored.status, stored.body), stored.number, grid)
