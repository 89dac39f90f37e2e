"""Fetch windows in a pool of threads and hand their responses to one thread."""

import queue
import threading
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from contextvars import copy_context
from dataclasses import dataclass, replace
from typing import Self

from etl.extract.client import Cancelled, Client
from etl.extract.rate_limit import POLL_INTERVAL
from etl.load.upsert import compress
from etl.models import Window
from etl.responses import Response

_Event = Response | BaseException | None
"""A response, a cancelled window, an error, or None after a commit, which allows further requests."""


@dataclass(frozen=True, slots=True)
class Arrivals:
    """What has arrived: responses, and whether windows were cancelled. ``error`` ends the run."""

    responses: list[Response]
    has_cancelled: bool
    error: BaseException | None


class RequestLoop:
    """Requests windows from ``concurrency`` threads. ``cancelled`` is set by another thread to stop the sync."""

    def __init__(
        self,
        client: Client,
        concurrency: int,
        is_usable: Callable[[Response], bool],
        cancelled: threading.Event,
    ) -> None:
        self._client = client
        self._is_usable = is_usable
        self._cancelled = cancelled
        self._events: queue.SimpleQueue[_Event] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(concurrency, thread_name_prefix="request")
        self.in_flight = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        if error_type:
            self._client.stop()  # otherwise the pool would wait for the responses
        self._pool.shutdown()

    def send(self, windows: Iterable[Window], final_codes: frozenset[str]) -> None:
        """Request windows. API errors with a code in ``final_codes`` are not retried."""
        for window in windows:
            self.in_flight += 1
            future = self._pool.submit(copy_context().run, self._fetch, window, final_codes)
            future.add_done_callback(self._put)

    def notify(self, error: BaseException | None) -> None:
        """Wake the thread in ``wait``: after a commit, or with the writer's error."""
        self._events.put(error)

    def wait(self) -> Arrivals:
        """Return what has arrived, after at most POLL_INTERVAL seconds.

        ``error`` is a KeyboardInterrupt if another thread has cancelled the sync.
        """
        was_cancelled = self._cancelled.is_set()
        events: list[_Event] = []
        with suppress(queue.Empty):
            events.append(self._events.get(timeout=0 if was_cancelled else POLL_INTERVAL))
            while True:
                events.append(self._events.get_nowait())
        responses = [event for event in events if isinstance(event, Response)]
        cancelled = [event for event in events if isinstance(event, Cancelled)]
        self.in_flight -= len(responses) + len(cancelled)
        errors = (event for event in events if isinstance(event, BaseException) and not isinstance(event, Cancelled))
        return Arrivals(responses, bool(cancelled), next(errors, KeyboardInterrupt() if was_cancelled else None))

    def _fetch(self, window: Window, final_codes: frozenset[str]) -> Response:
        """Runs in a pool thread. It also compresses the body, because the writer thread has the most to do."""
        response = self._client.fetch(window, final_codes, self._is_usable)
        return replace(response, compressed_body=compress(response.body))

    def _put(self, future: "Future[Response]") -> None:
        self._events.put(future.exception() or future.result())
