"""Number of requests of a sync compared with the minimum, for whole runs over years of generated data.

The minimum is what a run needs that knows all data in advance: the total of each day, each queue on its days with spend,
and one request per account for a queue that cannot exist.
"""

import itertools
import random
from collections import Counter
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from statistics import mean

import pytest

from etl.extract import planner
from etl.extract.planner import Done, Request, Step, StopReason, SyncOptions
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
from etl.sandbox.dataset import QUEUE_NAMES, Dataset
from tests.core import hour_values
from tests.property.simulated_account import SimulatedAccount

NOW = datetime(2026, 11, 22, 3, 15, tzinfo=UTC)
YEARS = timedelta(days=730)
NIGHT_COUNT = 30
EPOCH = date(1970, 1, 1)


@dataclass(frozen=True)
class Shape:
    """A number of queues and how many of them spend on any day, each for 30 days in a row.

    ``backfill`` and ``nightly``: the allowed number of requests as a multiple of the minimum.
    """

    queues: int
    active: int
    backfill: float
    nightly: float = 1.05


SHAPES = {
    "one active queue": Shape(1, 1, 1.02),
    "two of nine": Shape(9, 2, 1.15),
    "five of sixty": Shape(60, 5, 1.6),
}


class CountedAccount(SimulatedAccount):
    """Syncs of a generated dataset with complete responses and known names, but unknown active periods and prices."""

    def __init__(self, shape: Shape, seed: int, history: timedelta = YEARS) -> None:
        super().__init__(NOW, random.Random(seed))
        self.first_day = (NOW - history + DAY).date()
        active_periods = None if shape.queues == shape.active else (30, shape.active)
        self.dataset = Dataset(
            seed=seed,
            begins=self.first_day,
            queues=shape.queues,
            active_periods=active_periods,
            idle_hours=0,
            idle_weeks=0,
            turnover=False,
        )
        self.member_statuses = dict.fromkeys(map(queue, self.dataset.names), MemberStatus.VERIFIED)
        self.unknown_name_behaviours = {Dimension.QUEUE: UnknownNameBehaviour(UnknownNameAnswer.ZEROS)}

    def read(self, window: Window, requested_at: datetime) -> Snapshot:
        assert sum(plan.discovered > 0 and plan.day_state.is_closed for plan in self.state.open_days.values()) <= 1, (
            "two days discover names at the same time"
        )
        hours = self.dataset.day((window.day - EPOCH).days, int(requested_at.timestamp()), window.series.member)
        start = day_start(window.day)
        started = [(start + n * HOUR, *units) for n, units in enumerate(hours) if start + n * HOUR <= requested_at]
        return Snapshot(
            self.number,
            window,
            requested_at,
            Outcome.SUCCESS,
            hour_values((Record(*hour) for hour in started), window.day),
        )

    def nightly_sync(self, concurrency: int = 4) -> float:
        """Run one sync; return its requests as a multiple of the minimum."""
        options = SyncOptions(
            "default", self.now.date(), since=self.first_day, known_queues=(), concurrency=concurrency
        )
        assert self.sync(options) is StopReason.DONE
        totals = Counter(window.day for window in self.requested if window.series == TOTAL)
        assert set(totals.values()) == {1}, "a total was requested twice"
        return len(self.requested) / len(self.useful)

    def backfill(self) -> float:
        """Run the first sync; return its requests as a multiple of the minimum for the dataset."""
        self.nightly_sync()
        days = [self.first_day + timedelta(days=n) for n in range((NOW.date() - self.first_day).days + 1)]
        pairs = sum(self.dataset.is_active(name, (day - EPOCH).days) for day in days for name in self.dataset.names)
        assert {window.day for window in self.requested} == set(days)
        return len(self.requested) / (len(days) + pairs + 1)

    def backfill_in_rounds(self, concurrency: int) -> int:
        """Run the first sync if each response arrives one round after its request; return the number of rounds."""
        options = SyncOptions("default", self.now.date(), since=self.first_day, concurrency=concurrency)
        self._begin(options)
        for rounds in itertools.count():
            in_flight: list[Window] = []
            while isinstance(step := self._next_step(concurrency - len(in_flight)), Request):
                in_flight += step.windows
            if isinstance(step, Done):
                return rounds
            self.requested += in_flight
            self._process((window, self.now) for window in in_flight)
        raise AssertionError

    def _next_step(self, capacity: int) -> Step:
        self.state, step = planner.next_windows(self.state, capacity)
        self._settle()
        return step


def nightly_ratios(account: CountedAccount) -> list[float]:
    """Run syncs on consecutive days; return the requests of each as a multiple of its minimum."""
    ratios = []
    for nightly_sync in range(1, NIGHT_COUNT + 1):
        account.now = NOW + nightly_sync * DAY
        ratios.append(account.nightly_sync())
    return ratios


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.long if name == "five of sixty" else ()) for name in SHAPES]
)
def test_a_backfill_and_nightly_syncs_send_few_more_requests_than_the_minimum(name: str) -> None:
    shape = SHAPES[name]
    account = CountedAccount(shape, seed=2)
    assert account.backfill() <= shape.backfill
    assert mean(nightly_ratios(account)) <= shape.nightly


@pytest.mark.long
@pytest.mark.parametrize("name", SHAPES)
def test_the_request_limits_hold_for_many_histories(name: str) -> None:
    shape, nightly = SHAPES[name], []
    for seed in range(2, 6):
        account = CountedAccount(shape, seed)
        assert account.backfill() <= shape.backfill
        nightly += nightly_ratios(account)
    assert mean(nightly) <= shape.nightly


@pytest.mark.parametrize("names", [QUEUE_NAMES[3:4], QUEUE_NAMES[:3]], ids=["one", "three"])
def test_a_backfill_of_few_queues_uses_all_requests_at_once(names: tuple[str, ...]) -> None:
    account = CountedAccount(Shape(len(names), len(names), 1), seed=2, history=timedelta(days=365))
    account.dataset = Dataset.always_active(account.first_day, names)
    assert account.backfill_in_rounds(concurrency=8) <= 1.12 * len(account.requested) / 8
    idle_queues = len({window.series for window in account.requested} - {TOTAL, *map(queue, names)})
    confirmations = int(len(names) == 1)  # a queue that had no spend before gets the total
    assert len(account.requested) == 365 * (1 + len(names)) + idle_queues + confirmations
