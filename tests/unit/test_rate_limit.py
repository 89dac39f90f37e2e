import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from itertools import pairwise

import pytest

from etl.clock import Clock
from etl.extract.rate_limit import (
    POLL_INTERVAL,
    AccountRateLimiter,
    RateLimiter,
    Schedule,
    SharedRateLimiter,
    reserve,
    wait_until,
)


@dataclass
class FakeTime:
    """A clock that only advances when a thread sleeps."""

    tick: float = 100.0
    longest_sleep: float = 0.0

    def sleep(self, seconds: float) -> None:
        self.tick += seconds
        self.longest_sleep = max(self.longest_sleep, seconds)

    def clock(self) -> Clock:
        return Clock(lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: self.tick, self.sleep)


def never() -> bool:
    return False


def test_slots_are_evenly_spaced_and_a_missed_slot_is_not_made_up() -> None:
    starts, schedule = [], Schedule()
    for now in (10.0, 10.0, 10.1, 20.0, 20.0):
        start, schedule = reserve(schedule, now, 0.5)
        starts.append(start)
    assert starts == [10.0, 10.5, 11.0, 20.0, 20.5]


def test_no_slot_is_before_the_end_of_a_pause() -> None:
    assert reserve(Schedule(next_at=3.0, paused_until=9.0), 1.0, 0.5) == (9.0, Schedule(next_at=9.5, paused_until=9.0))


def test_five_requests_per_second_are_one_every_200_ms() -> None:
    time = FakeTime()
    limiter = RateLimiter(5, time.clock())
    starts = []
    for _ in range(6):
        assert limiter.acquire(never)
        starts.append(time.tick)
    assert starts == pytest.approx([100.0, 100.2, 100.4, 100.6, 100.8, 101.0])


def test_rate_zero_waits_only_for_pauses() -> None:
    time = FakeTime()
    limiter = RateLimiter(0, time.clock())
    assert all(limiter.acquire(never) for _ in range(1000))
    assert time.tick == 100.0
    limiter.pause(30)
    limiter.pause(10)
    assert limiter.acquire(never)
    assert time.tick == pytest.approx(130.0)


def test_waiting_is_split_into_short_sleeps_so_that_a_stop_is_noticed() -> None:
    time = FakeTime()
    limiter = RateLimiter(0, time.clock())
    limiter.pause(300)
    assert not limiter.acquire(lambda: time.tick > 101)
    assert time.tick < 101 + 2 * POLL_INTERVAL
    assert time.longest_sleep <= POLL_INTERVAL
    assert not wait_until(0.0, time.clock(), lambda: True)


def test_a_pause_applies_to_threads_that_already_wait() -> None:
    time = FakeTime()
    limiter = RateLimiter(1, time.clock())
    assert limiter.acquire(never)

    def pause_while_waiting() -> bool:
        if 100.4 < time.tick < 100.7:
            limiter.pause(10)
        return False

    assert limiter.acquire(pause_while_waiting)
    assert time.tick > 110.3


def test_threads_share_one_rate() -> None:
    clock = Clock()
    limiter = RateLimiter(100, clock)
    starts: list[float] = []

    def work() -> None:
        for _ in range(5):
            assert limiter.acquire(never)
            starts.append(clock.monotonic())

    started = clock.monotonic()
    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(starts) == 30
    # The n-th start is never earlier than its slot, however the threads were scheduled.
    assert all(start >= started + n / 100 for n, start in enumerate(sorted(starts)))


# ---------------------------------------------------------------- several accounts


class ManualTime:
    """A clock that the test advances to the next time at which a sleeping thread wakes."""

    def __init__(self) -> None:
        self._change = threading.Condition()
        self._wake_times: list[float] = []
        self.tick = 100.0

    def clock(self) -> Clock:
        return Clock(lambda: datetime(2026, 1, 1, tzinfo=UTC), lambda: self.tick, self._sleep)

    def _sleep(self, seconds: float) -> None:
        with self._change:
            wake_time = self.tick + seconds
            if wake_time > self.tick:
                self._wake_times.append(wake_time)
                self._change.notify_all()
            assert self._change.wait_for(lambda: self.tick >= wake_time, 10)

    def advance(self, sleepers: int) -> None:
        """Advance the clock as soon as at least this many threads sleep."""
        with self._change:
            assert self._change.wait_for(lambda: len(self._wake_times) >= sleepers, 10)
            self.tick = min(self._wake_times, default=self.tick)
            self._wake_times = [wake_time for wake_time in self._wake_times if wake_time > self.tick]
            self._change.notify_all()


def test_slots_alternate_between_accounts_however_many_threads_each_has() -> None:
    time, starts, stopped = ManualTime(), list[str](), threading.Event()
    limiter = RateLimiter(1 / POLL_INTERVAL, time.clock())
    assert limiter.acquire(never)

    def work(name: str, account_limiter: AccountRateLimiter) -> None:
        while account_limiter.acquire(stopped.is_set):
            starts.append(name)

    many, one = AccountRateLimiter(limiter), AccountRateLimiter(limiter)
    threads = [threading.Thread(target=work, args=("many", many)) for _ in range(32)]
    threads.append(threading.Thread(target=work, args=("one", one)))
    for thread in threads:
        thread.start()
    while len(starts) < 60:
        time.advance(sleepers=2)  # of each account the first in its queue
    stopped.set()
    while any(thread.is_alive() for thread in threads):
        time.advance(sleepers=0)
    assert all(account != next_account for account, next_account in pairwise(starts))


def test_the_own_rate_of_an_account_slows_only_that_account() -> None:
    time = FakeTime()
    shared = RateLimiter(10, time.clock())
    slow, other = AccountRateLimiter(shared, RateLimiter(1, time.clock())), AccountRateLimiter(shared)
    assert all(slow.acquire(never) for _ in range(3))
    assert time.tick == pytest.approx(102.0)
    assert all(other.acquire(never) for _ in range(10))
    assert time.tick == pytest.approx(103.0)


def test_a_pause_of_one_account_pauses_all() -> None:
    time = FakeTime()
    shared = RateLimiter(0, time.clock())
    one, other = AccountRateLimiter(shared), AccountRateLimiter(shared)
    one.pause(30)
    assert other.acquire(never)
    assert time.tick == pytest.approx(130.0)


def test_a_thread_waiting_for_its_account_notices_a_stop() -> None:
    clock = Clock()
    shared = RateLimiter(0, clock)
    shared.pause(60)
    account_limiter, stopped = AccountRateLimiter(shared), threading.Event()
    threads = [threading.Thread(target=account_limiter.acquire, args=(stopped.is_set,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    started = clock.monotonic()
    stopped.set()
    for thread in threads:
        thread.join()
    assert clock.monotonic() < started + 3 * POLL_INTERVAL


@dataclass
class FakeSchedule:
    """A shared schedule that answers with prepared waits, and is paused until ``paused_until`` of the clock."""

    time: FakeTime
    waits: list[float | None]
    paused_until: float = 0.0
    questions: int = 0

    def reserve(self, interval: float) -> float | None:
        return self.waits.pop(0)

    def pause(self, seconds: float) -> None:
        self.paused_until = self.time.tick + seconds

    def is_paused(self) -> bool:
        self.questions += 1
        return self.time.tick < self.paused_until


def test_a_shared_limiter_waits_as_long_as_the_shared_schedule_says() -> None:
    time = FakeTime()
    limiter = SharedRateLimiter(5, time.clock(), FakeSchedule(time, [0.0, 1.5]))
    assert limiter.acquire(never)
    assert time.tick == 100.0
    assert limiter.acquire(never)
    assert time.tick == pytest.approx(101.5)


def test_a_pause_by_another_process_applies_to_a_request_that_already_waits() -> None:
    time = FakeTime()
    shared = FakeSchedule(time, [2.0, 28.0], paused_until=130.0)
    assert SharedRateLimiter(5, time.clock(), shared).acquire(never)
    assert time.tick == pytest.approx(130.0)
    assert shared.questions == 2


def test_a_pause_is_not_looked_for_after_a_short_wait() -> None:
    time = FakeTime()
    shared = FakeSchedule(time, [POLL_INTERVAL / 2], paused_until=200.0)
    assert SharedRateLimiter(5, time.clock(), shared).acquire(never)
    assert shared.questions == 0


def test_a_process_that_cannot_reach_the_shared_schedule_keeps_to_the_rate_and_its_own_pauses() -> None:
    time = FakeTime()
    shared = FakeSchedule(time, [None] * 4)
    limiter = SharedRateLimiter(5, time.clock(), shared)
    starts = []
    for _ in range(3):
        assert limiter.acquire(never)
        starts.append(time.tick)
    assert starts == pytest.approx([100.0, 100.2, 100.4])
    limiter.pause(10)
    assert shared.paused_until == pytest.approx(110.4)
    assert limiter.acquire(never)
    assert time.tick == pytest.approx(110.4)


def test_a_stopped_thread_leaves_a_shared_limiter() -> None:
    time = FakeTime()
    assert not SharedRateLimiter(5, time.clock(), FakeSchedule(time, [300.0])).acquire(lambda: time.tick > 101)
    assert time.tick < 101 + 2 * POLL_INTERVAL
