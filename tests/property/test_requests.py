"""How many requests a sync needs, against how few it could: whole runs over years of the stand-in's books.

The least is what a run that knew every answer beforehand would ask: each day's total, each queue on the days it
spent, and once in an account's life a queue that cannot exist.
"""

import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import mean

import pytest

from etl.extract.planner import StopReason, SyncOptions
from etl.models import (
    DAY,
    HOUR,
    TOTAL,
    Dimension,
    MemberStatus,
    Outcome,
    Record,
    Snapshot,
    UnknownNameAnswer,
    UnknownNameBehaviour,
    Window,
    day_start,
    queue,
)
from etl.sandbox.dataset import Dataset
from tests.property.nightly_lives import Nights

NOW = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)
YEARS = timedelta(days=730)
NIGHTS = 30
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Shape:
    """So many queues, of which so many spend on any day, each for 30 days at a stretch.

    ``backfill`` and ``nightly``: the most requests allowed, by the least that there could be.
    """

    queues: int
    active: int
    backfill: float
    nightly: float = 1.05


SHAPES = {
    "one busy queue": Shape(1, 1, 1.02),
    "two of nine": Shape(9, 2, 1.15),
    "five of sixty": Shape(60, 5, 1.6),
}


class Watched(Nights):
    """Nights against a dataset, with full answers and names known; no clue of when or at what price they work."""

    def __init__(self, shape: Shape, seed: int, history: timedelta = YEARS) -> None:
        super().__init__(NOW, random.Random(seed))
        self.begins = (NOW - history + DAY).date()
        active_periods = None if shape.queues == shape.active else (30, shape.active)
        self.dataset = Dataset(
            seed=seed,
            begins=self.begins,
            queues=shape.queues,
            active_periods=active_periods,
            idle_hours=0,
            idle_weeks=0,
            turnover=False,
        )
        self.member_statuses = dict.fromkeys(map(queue, self.dataset.names), MemberStatus.VERIFIED)
        self.unknown_name_behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}

    def read(self, window: Window, requested_at: datetime) -> Snapshot:
        assert sum(plan.is_discovering for plan in self.state.open_days.values()) <= 1, (
            "two days hunt for a name at once"
        )
        hours = self.dataset.day((window.day - EPOCH).days, int(requested_at.timestamp()), window.series.member)
        start = day_start(window.day)
        begun = [(start + n * HOUR, *units) for n, units in enumerate(hours) if start + n * HOUR <= requested_at]
        return Snapshot(self.number, window, requested_at, Outcome.SUCCESS, tuple(Record(*hour) for hour in begun))

    def night(self, concurrency: int = 4) -> float:
        """One sync: its requests, by the least of them."""
        options = SyncOptions("default", self.now.date(), since=self.begins, known_queues=(), concurrency=concurrency)
        assert self.sync(options) is StopReason.DONE
        totals = Counter(window.day for window in self.asked if window.series == TOTAL)
        assert set(totals.values()) == {1}, "a total was asked twice"
        return len(self.asked) / len(self.useful)

    def backfill(self) -> float:
        """The first sync: its requests, by the least of them as the books tell it."""
        self.night()
        days = [self.begins + timedelta(days=n) for n in range((NOW.date() - self.begins).days + 1)]
        pairs = sum(self.dataset.is_active(name, (day - EPOCH).days) for day in days for name in self.dataset.names)
        assert {window.day for window in self.asked} == set(days)
        return len(self.asked) / (len(days) + pairs + 1)


def nights_after(account: Watched) -> list[float]:
    """Nights in a row, each with its requests by the least of them."""
    ratios = []
    for night in range(1, NIGHTS + 1):
        account.now = NOW + night * DAY
        ratios.append(account.night())
    return ratios


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "five of sixty" else ()) for name in SHAPES]
)
def test_a_backfill_and_the_nights_after_it_ask_hardly_more_than_they_must(name: str) -> None:
    shape = SHAPES[name]
    account = Watched(shape, seed=2)
    assert account.backfill() <= shape.backfill
    assert mean(nights_after(account)) <= shape.nightly


@pytest.mark.long
@pytest.mark.parametrize("name", SHAPES)
def test_whatever_the_history_a_backfill_and_the_nights_after_it_ask_hardly_more_than_they_must(name: str) -> None:
    shape, nightly = SHAPES[name], []
    for seed in range(2, 6):
        account = Watched(shape, seed)
        assert account.backfill() <= shape.backfill
        nightly += nights_after(account)
    assert mean(nightly) <= shape.nightly
