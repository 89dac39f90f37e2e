import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from etl.clock import Clock
from etl.extract.rate_limit import POLL_INTERVAL, AccountRateLimiter, RateLimiter, Schedule, reserve, wait_until


@dataclass
class Time:
    """A clock whose only hands are its sleepers."""

    tick: float = 100.0
    longest_sleep: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.tick += seconds
        self.longest_sleep = max(self.longest_sleep, seconds)

    def clock(self) -> Clock:
        return Clock(lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: self.tick, self.sleep)


def never() -> bool:
    return False


def test_turns_are_evenly_spaced_and_a_missed_one_is_not_made_up_for() -> None:
    starts, turns = [], Schedule()
    for now in (10.0, 10.0, 10.1, 20.0, 20.0):
        start, turns = reserve(turns, now, 0.5)
        starts.append(start)
    assert starts == [10.0, 10.5, 11.0, 20.0, 20.5]


def test_no_turn_is_before_the_end_of_a_hold() -> None:
    assert reserve(Schedule(next_at=3.0, paused_until=9.0), 1.0, 0.5) == (9.0, Schedule(next_at=9.5, paused_until=9.0))


def test_five_a_second_is_one_every_fifth_of_a_second() -> None:
    time = Time()
    pace = RateLimiter(5, time.clock())
    starts = []
    for _ in range(6):
        assert pace.acquire(never)
        starts.append(time.tick)
    assert starts == pytest.approx([100.0, 100.2, 100.4, 100.6, 100.8, 101.0])


def test_rate_zero_never_waits_but_honours_a_hold() -> None:
    time = Time()
    pace = RateLimiter(0, time.clock())
    assert all(pace.acquire(never) for _ in range(1000))
    assert time.tick == 100.0
    pace.pause(30)
    pace.pause(10)
    assert pace.acquire(never)
    assert time.tick == pytest.approx(130.0)


def test_waiting_is_sliced_so_that_a_stop_is_noticed() -> None:
    time = Time()
    pace = RateLimiter(0, time.clock())
    pace.pause(300)
    assert not pace.acquire(lambda: time.tick > 101)
    assert time.tick < 101 + 2 * POLL_INTERVAL
    assert time.longest_sleep <= POLL_INTERVAL
    assert not wait_until(0.0, time.clock(), lambda: True)


def test_a_hold_reaches_those_who_already_wait() -> None:
    time = Time()
    pace = RateLimiter(1, time.clock())
    assert pace.acquire(never)

    def hold_while_waiting() -> bool:
        if 100.4 < time.tick < 100.7:
            pace.pause(10)
        return False

    assert pace.acquire(hold_while_waiting)
    assert time.tick > 110.3


def test_threads_share_one_pace() -> None:
    clock = Clock()
    pace = RateLimiter(100, clock)
    starts: list[float] = []

    def work() -> None:
        for _ in range(5):
            assert pace.acquire(never)
            starts.append(clock.monotonic())

    began = clock.monotonic()
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(starts) == 30
    # The n-th start is never earlier than its turn, however the threads were scheduled.
    assert all(start >= began + n / 100 for n, start in enumerate(sorted(starts)))


# ---------------------------------------------------------------- accounts side by side


class ByHand:
    """A clock that goes on by hand, to the next moment for which a thread sleeps."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._due: list[float] = []
        self.tick = 100.0

    def clock(self) -> Clock:
        return Clock(lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: self.tick, self._sleep)

    def _sleep(self, seconds: float) -> None:
        with self._change:
            due = self.tick + seconds
            if due > self.tick:
                self._due.append(due)
                self._change.notify_all()
            assert self._change.wait_for(lambda: self.tick >= due, 10)

    def go_on(self, sleepers: int) -> None:
        """Once so many threads sleep at least."""
        with self._change:
            assert self._change.wait_for(lambda: len(self._due) >= sleepers, 10)
            self.tick = min(self._due, default=self.tick)
            self._due = [due for due in self._due if due > self.tick]
            self._change.notify_all()


def test_turns_go_round_by_account_however_many_threads_each_has() -> None:
    time, starts, over = ByHand(), list[str](), threading.Event()
    pace = RateLimiter(1 / POLL_INTERVAL, time.clock())
    assert pace.acquire(never)

    def work(name: str, share: AccountRateLimiter) -> None:
        while share.acquire(over.is_set):
            starts.append(name)

    many, one = AccountRateLimiter(pace), AccountRateLimiter(pace)
    threads = [threading.Thread(target=work, args=("many", many)) for _ in range(32)]
    threads.append(threading.Thread(target=work, args=("one", one)))
    for thread in threads:
        thread.start()
    while len(starts) < 60:
        time.go_on(sleepers=2)  # of each account the first in its queue
    over.set()
    while any(thread.is_alive() for thread in threads):
        time.go_on(sleepers=0)
    assert all(turn != next_turn for turn, next_turn in pairwise(starts))


def test_an_account_with_a_pace_of_its_own_is_slower_and_leaves_the_others_theirs() -> None:
    time = Time()
    whole = RateLimiter(10, time.clock())
    slow, other = AccountRateLimiter(whole, RateLimiter(1, time.clock())), AccountRateLimiter(whole)
    assert all(slow.acquire(never) for _ in range(3))
    assert time.tick == pytest.approx(102.0)
    assert all(other.acquire(never) for _ in range(10))
    assert time.tick == pytest.approx(103.0)


def test_a_hold_of_one_account_is_one_of_all() -> None:
    time = Time()
    whole = RateLimiter(0, time.clock())
    one, other = AccountRateLimiter(whole), AccountRateLimiter(whole)
    one.pause(30)
    assert other.acquire(never)
    assert time.tick == pytest.approx(130.0)


def test_who_waits_for_his_account_s_turn_notices_a_stop() -> None:
    clock = Clock()
    whole = RateLimiter(0, clock)
    whole.pause(60)
    share, over = AccountRateLimiter(whole), threading.Event()
    threads = [threading.Thread(target=share.acquire, args=(over.is_set,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    began = clock.monotonic()
    over.set()
    for thread in threads:
        thread.join()
    assert clock.monotonic() < began + 3 * POLL_INTERVAL
