"""Serve the sandbox's responses from memory, in a separate process that prints its URL.

Arguments: DAYS QUEUES AT_ONCE NIGHT LATENCY PREPARED. The sandbox makes every response once, in advance; serving them
from an event loop costs a tenth. A request that was not prepared is answered by the sandbox when it arrives.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

from benchmarks.history import NOW
from etl.sandbox.behaviour import METHOD, Behaviour
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox

_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Account(NamedTuple):
    """``at_once`` queues spend on any day, each for 30 days in a row. ``days``: days of history on the first night."""

    days: int
    queues: int
    at_once: int
    night: int = 0

    @property
    def begins(self) -> date:
        return NOW.date() - timedelta(days=self.days - 1)

    @property
    def now(self) -> datetime:
        """The current time of the API and of the sync; it stands still."""
        return NOW + timedelta(days=self.night)

    @property
    def dataset(self) -> Dataset:
        active_periods = None if self.at_once == self.queues else (30, self.at_once)
        return Dataset(
            seed=2,
            begins=self.begins,
            queues=self.queues,
            active_periods=active_periods,
            idle_hours=0,
            idle_weeks=0,
            turnover=False,
        )


class Answers:
    """Response bodies by request. The clock stands still, so a response never changes."""

    def __init__(self, account: Account) -> None:
        self._sandbox = Sandbox(account.dataset, Behaviour(unknown_queue="zeros"), now=lambda: account.now)
        self._bodies: dict[bytes, bytes] = {}
        self._account = account

    def prepare(self, days: int) -> None:
        """Prepare the totals of the newest ``days`` days, and every queue on days it spends."""
        dataset = self._account.dataset
        newest = (self._account.now.date() - date(1970, 1, 1)).days
        for number in range(newest, newest - days, -1):
            for queue in (None, *(name for name in dataset.names if dataset.is_active(name, number))):
                question = {"clientKey": "any", "date": number * 86_400, **({} if queue is None else {"queue": queue})}
                self.body(json.dumps(question).encode())

    @property
    def date(self) -> bytes:
        """The Date header, from the fixed clock; otherwise no day would become final."""
        return format_datetime(self._account.now, usegmt=True).encode()

    def body(self, request: bytes) -> bytes:
        question = json.loads(request)
        question["clientKey"] = "any"
        key = json.dumps(question, sort_keys=True).encode()
        if key not in self._bodies:
            self._bodies[key] = self._sandbox.respond(METHOD, key).body
        return self._bodies[key]


class _Peer(asyncio.Protocol):
    """A connection; each request is answered ``latency`` seconds after it arrived."""

    def __init__(self, answers: Answers, latency: float) -> None:
        self._answers, self._latency, self._date = answers, latency, answers.date
        self._came = bytearray()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._came += data
        end = self._came.find(b"\r\n\r\n") + 4
        length = _LENGTH.search(self._came, 0, end) if end > 3 else None
        if length is None or len(self._came) < end + int(length[1]):
            return
        body = self._answers.body(bytes(self._came[end:]))
        self._came.clear()
        head = b"HTTP/1.1 200 OK\r\nDate: %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n"
        reply = head % (self._date, len(body)) + body
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, reply)
        else:
            self._transport.write(reply)


async def _serve(answers: Answers, latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Peer(answers, latency), "127.0.0.1", 0, backlog=256)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the parent closes the pipe


@contextmanager
def serving(account: Account, latency: float = 0, prepared: int | None = None) -> Iterator[str]:
    """Serve until the end of the block; yields the URL. ``prepared``: newest days made in advance (default: all)."""
    command = [sys.executable, "-m", "benchmarks.service", *map(str, (*account, latency, prepared or account.days))]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


if __name__ == "__main__":
    *counts, seconds, newest_days = sys.argv[1:]
    ready = Answers(Account(*map(int, counts)))
    ready.prepare(int(newest_days))
    asyncio.run(_serve(ready, float(seconds)))
