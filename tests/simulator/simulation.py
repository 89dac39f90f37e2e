"""Install the simulator in this process: virtual time, threads, network and named moments, over the real program."""

import hashlib
import logging
import random
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from httpcore._sync import http11

from etl.extract import journal, rate_limit, transport
from etl.load import accounts
from etl.maintenance import alerting
from etl.maintenance.delivery import DeliveryLog
from etl.sync import initial_state, request_loop, run, writer
from etl.warehouse import duckdb, file_access
from tests.simulator.deliveries import Deliveries
from tests.simulator.moments import Moments
from tests.simulator.scheduler import Scheduler
from tests.simulator.service import Service, network
from tests.simulator.stores import HELD_OPEN
from tests.simulator.threads import Threads

POLL_INTERVAL = 10.0
"""Seconds between looks for a stop: a thread that waits costs real time."""


class Simulation:
    """The parts of a life that the program meets. ``threads_seed`` is set for each night."""

    def __init__(self, scheduler: Scheduler, service: Service, moments: Moments) -> None:
        self.scheduler, self.service, self.moments = scheduler, service, moments
        self.jitter = random.Random(0)
        self.deliveries = Deliveries()

    @contextmanager
    def installed(self) -> Iterator[None]:
        threads = Threads(self.scheduler)
        time = SimpleNamespace(monotonic=lambda: self.scheduler.seconds)
        one_thread = {"threads": 1}
        with ExitStack() as stack:
            for owner, name, value in (
                (request_loop, "queue", threads.queue),
                (request_loop, "ThreadPoolExecutor", threads.pool),
                (writer, "queue", threads.queue),
                (writer, "threading", threads.threading),
                (journal, "threading", threads.threading),
                (file_access, "threading", threads.threading),
                (file_access, "_accesses", {}),
                (transport, "threading", threads.threading),
                (transport, "Deadline", threads.deadline),
                (transport, "_Network", network(self.service, self.scheduler)),
                (http11, "time", time),
                (run, "random", SimpleNamespace(Random=lambda: self.jitter)),
                (accounts, "hash_key", _hash_key),
                (initial_state, "reparse", cache(initial_state.reparse)),  # each night parses what the last one did
                (alerting, "send", self.deliveries.send),
                (alerting, "_text", self.deliveries.text),
                (DeliveryLog, "record", self.deliveries.recording(DeliveryLog.record)),
                (rate_limit, "POLL_INTERVAL", POLL_INTERVAL),
                (transport, "POLL_INTERVAL", POLL_INTERVAL),
                (request_loop, "POLL_INTERVAL", POLL_INTERVAL),
                (writer, "BATCH_SNAPSHOTS", writer.BATCH_SNAPSHOTS),
                (writer, "BATCH_SECONDS", writer.BATCH_SECONDS),
            ):
                stack.enter_context(_replaced(owner, name, value))
            stack.enter_context(patch.dict(duckdb._NO_EXTENSIONS, one_thread))
            stack.enter_context(patch.dict(duckdb._SEALED, one_thread))
            stack.enter_context(
                _replaced(duckdb.FileOpener, "__init__", _open_like_a_writer(duckdb.FileOpener.__init__))
            )
            stack.enter_context(self.moments.installed())
            level = logging.root.manager.disable
            logging.disable(logging.CRITICAL)
            stack.callback(logging.disable, level)
            yield


def _replaced(owner: Any, name: str, value: object) -> Any:
    return patch.object(owner, name, value)


def _hash_key(key: Any, salt: bytes) -> bytes:
    """The program's takes 50 ms on purpose."""
    return hashlib.sha256(salt + key.get_secret_value().encode()).digest()


def _open_like_a_writer(original: Any) -> Any:
    """The files that are held open can only be opened with the configuration they already have."""

    def init(self: Any, path: Any, **options: Any) -> None:
        original(self, path, **options)
        if path in HELD_OPEN:
            self._settings = ["TimeZone = 'UTC'"]
            self.config = dict(duckdb._NO_EXTENSIONS)

    return init
