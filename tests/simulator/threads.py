"""Stand-ins for the parts of ``threading``, ``queue`` and ``concurrent.futures`` that the program uses, in virtual time."""

import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any, Self

from etl.extract import transport
from tests.simulator.scheduler import Scheduler


class Threads:
    """The stand-ins of one scheduler, as namespaces that take the place of the modules."""

    def __init__(self, scheduler: Scheduler) -> None:
        self.scheduler = scheduler
        self.queue = SimpleNamespace(SimpleQueue=self._queue, Empty=queue.Empty)
        self.threading = SimpleNamespace(
            Lock=lambda: _Lock(scheduler),
            Condition=lambda: _Condition(scheduler),
            Thread=self._thread,
            Event=threading.Event,
            get_ident=lambda: scheduler.current.number,
            current_thread=threading.current_thread,
        )

    def pool(self, size: int, thread_name_prefix: str = "") -> "_Pool":
        return _Pool(self.scheduler, size)

    def deadline(self, clock: Any, is_stopped: Callable[[], bool]) -> "transport.Deadline":
        return _Deadline(self.scheduler, clock, is_stopped)

    def _queue(self) -> "_Queue":
        return _Queue(self.scheduler)

    def _thread(self, target: Callable[..., object], args: Sequence[object] = (), **_: object) -> "_Thread":
        return _Thread(self.scheduler, target, args)


class _Deadline(transport.Deadline):
    """One deadline for each thread of the simulator."""

    def __init__(self, scheduler: Scheduler, clock: Any, is_stopped: Callable[[], bool]) -> None:
        super().__init__(clock, is_stopped)
        self._scheduler = scheduler

    def start(self, seconds: float) -> None:
        self._scheduler.current.memo["ends_at"] = self._monotonic() + seconds

    def limit(self, timeout: float | None) -> float:
        self._ends_at = self._scheduler.current.memo["ends_at"]
        return super().limit(timeout)


class _Queue:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._items: deque[Any] = deque()

    def put(self, item: object) -> None:
        self._items.append(item)

    def get(self, timeout: float | None = None) -> Any:
        if not self._scheduler.wait(lambda: bool(self._items), timeout):
            raise queue.Empty
        return self._items.popleft()

    def get_nowait(self) -> Any:
        if not self._items:
            raise queue.Empty
        return self._items.popleft()


class _Lock:
    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._is_locked = False

    def __enter__(self) -> Self:
        if self._is_locked:
            self._scheduler.wait(lambda: not self._is_locked)
        self._is_locked = True
        return self

    def __exit__(self, *_: object) -> None:
        self._is_locked = False


class _Condition:
    """Its block is never left by other threads before ``wait_for``, so it needs no lock."""

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def wait_for(self, predicate: Callable[[], object]) -> object:
        self._scheduler.wait(lambda: bool(predicate()))
        return predicate()

    def notify_all(self) -> None:
        pass


class _Thread:
    def __init__(self, scheduler: Scheduler, target: Callable[..., object], args: Sequence[object]) -> None:
        self._scheduler = scheduler
        self._run = lambda: target(*args)

    def start(self) -> None:
        self._task = self._scheduler.spawn(self._run)

    def join(self) -> None:
        self._scheduler.wait(lambda: self._task.dead)


class _Future:
    def __init__(self) -> None:
        self._result: Any = None
        self._error: BaseException | None = None

    def set(self, result: object, error: BaseException | None) -> None:
        self._result, self._error = result, error
        self._callback(self)

    def add_done_callback(self, callback: Callable[[Any], object]) -> None:
        self._callback = callback

    def exception(self) -> BaseException | None:
        return self._error

    def result(self) -> Any:
        return self._result


class _Pool:
    """Each work gets a thread of its own, as soon as fewer than ``size`` run."""

    def __init__(self, scheduler: Scheduler, size: int) -> None:
        self._scheduler, self._size = scheduler, size
        self._running = 0
        self._free_numbers = list(range(-size, 0))

    def submit(self, run: Callable[..., object], *arguments: object) -> _Future:
        future = _Future()
        self._running += 1

        def work() -> None:
            self._scheduler.current.number = self._free_numbers.pop()  # its connection is used again
            try:
                result, error = run(*arguments), None
            except Exception as caught:  # noqa: BLE001 - belongs to the future
                result, error = None, caught
            self._free_numbers.append(self._scheduler.current.number)
            self._running -= 1
            future.set(result, error)

        self._scheduler.spawn(work)
        return future

    def shutdown(self) -> None:
        self._scheduler.wait(lambda: not self._running)
