"""How fast to go: one pace for all threads that ask one host, and equal shares in it for the accounts they ask for."""

import threading
from collections.abc import Callable
from typing import NamedTuple

from etl.clock import Clock

POLL_INTERVAL = 0.2
"""Seconds within which a waiting thread notices that it should stop."""


class Schedule(NamedTuple):
    """When the next request may start and until when nobody may, in the clock's ticks."""

    next_at: float = 0.0
    paused_until: float = 0.0


def reserve(turns: Schedule, now: float, interval: float) -> tuple[float, Schedule]:
    """The start of the next request, never earlier than ``now``, and the turns left. No turn that passed is made up
    for."""
    start = max(now, turns.next_at, turns.paused_until)
    return start, turns._replace(next_at=start + interval)


def wait_until(tick: float, clock: Clock, stopped: Callable[[], bool]) -> bool:
    """Sleep until ``tick``. False as soon as ``stopped``, noticed within POLL_INTERVAL seconds."""
    while not stopped():
        left = tick - clock.monotonic()
        if left <= 0:
            return True
        clock.sleep(min(left, POLL_INTERVAL))
    return False


class RateLimiter:
    """Requests start evenly, ``rate_per_second`` of them, in the order their threads came; 0 is no limit."""

    def __init__(self, rate_per_second: float, clock: Clock) -> None:
        self._interval = 1.0 / rate_per_second if rate_per_second > 0 else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._turns = Schedule()

    def acquire(self, stopped: Callable[[], bool]) -> bool:
        """Block until a request may start. False: ``stopped`` came first."""
        while True:
            with self._lock:
                start, self._turns = reserve(self._turns, self._clock.monotonic(), self._interval)
            if not wait_until(start, self._clock, stopped):
                return False
            if start >= self._turns.paused_until:  # else a hold came while this thread waited: queue again behind it
                return True

    def pause(self, seconds: float) -> None:
        """Nobody starts for ``seconds`` from now, not even who already waits for a turn."""
        with self._lock:
            self._turns = self._turns._replace(
                paused_until=max(self._turns.paused_until, self._clock.monotonic() + seconds)
            )


class AccountRateLimiter:
    """One account's part of a pace: its threads have their turns by its own pace ``own``, if it has one, and then by
    the ``whole`` that it shares with others.

    One thread of an account at a time stands in the queue that all accounts share, so that turns go round by account,
    however many threads each has.
    """

    def __init__(self, whole: RateLimiter, own: RateLimiter | None = None) -> None:
        self._whole = whole
        self._own = own
        self._in_queue = threading.Lock()

    def acquire(self, stopped: Callable[[], bool]) -> bool:
        """As that of ``RateLimiter``."""
        if self._own and not self._own.acquire(stopped):
            return False
        while not self._in_queue.acquire(timeout=POLL_INTERVAL):
            if stopped():
                return False
        try:
            return self._whole.acquire(stopped)
        finally:
            self._in_queue.release()

    def pause(self, seconds: float) -> None:
        """As that of ``RateLimiter``: nobody starts, of no account, for it is the host that asked for it."""
        self._whole.pause(seconds)
