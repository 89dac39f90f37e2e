"""Serve the sandbox's responses from memory, in a separate process that prints its URL.

Arguments: DAYS QUEUES AT_ONCE NIGHT CLOCK LATENCY PREPARED [KIND=RATE...]. The sandbox makes every response once, in
advance; serving them from an event loop costs a tenth. A request that was not prepared is answered by the sandbox when
it arrives. With faults, the sandbox itself serves.
"""

import asyncio
import json
import re
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from email.utils import format_datetime
from typing import NamedTuple

from benchmarks.history import NOW
from etl.sandbox.behaviour import METHOD, Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox

FIXED = int(NOW.timestamp())
_LENGTH = re.compile(rb"content-length: *(\d+)", re.IGNORECASE)


class Account(NamedTuple):
    """``at_once`` queues spend on any day, each for 30 days in a row. ``days``: days of history on the first night.

    ``clock``: the Unix second of the first night, for the real command line, which cannot be given a time.
    """

    days: int
    queues: int
    at_once: int
    night: int = 0
    clock: int = FIXED

    @classmethod
    def today(cls, days: int, queues: int) -> "Account":
        """Return an account of today whose queues all spend every hour."""
        return cls(days, queues, queues, clock=int(datetime.now(UTC).timestamp()))

    @property
    def _first_night(self) -> datetime:
        return datetime.fromtimestamp(self.clock, UTC)

    @property
    def begins(self) -> date:
        return self._first_night.date() - timedelta(days=self.days - 1)

    @property
    def now(self) -> datetime:
        """The current time of the API and of the sync; it stands still."""
        return self._first_night + timedelta(days=self.night)

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

    def date(self) -> bytes:
        """Return the Date header: of the fixed time, or of this moment for an account of today; otherwise the program
        would find its clock wrong, and no day would become final."""
        now = self._account.now if self._account.clock == FIXED else datetime.now(UTC)
        return format_datetime(now, usegmt=True).encode()

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
        self._answers, self._latency = answers, latency
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
        reply = head % (self._answers.date(), len(body)) + body
        if self._latency:
            asyncio.get_running_loop().call_later(self._latency, self._transport.write, reply)
        else:
            self._transport.write(reply)


async def _serve(answers: Answers, latency: float) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: _Peer(answers, latency), "127.0.0.1", 0, backlog=256)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await loop.run_in_executor(None, sys.stdin.read)  # until the parent closes the pipe


def _serve_faults(account: Account, faults: list[str]) -> None:
    split = [fault.split("=") for fault in faults]
    chosen = tuple(Fault(FaultKind(kind), rate=float(rate)) for kind, rate in split)
    with Sandbox(account.dataset, Behaviour(unknown_queue="zeros"), chosen) as sandbox:
        print(sandbox.url, flush=True)
        sys.stdin.read()


@contextmanager
def serving(
    account: Account, latency: float = 0, prepared: int | None = None, faults: Iterable[str] = ()
) -> Iterator[str]:
    """Serve until the end of the block; yields the URL. ``prepared``: newest days made in advance (default: all).

    ``faults``: as of the command ``sandbox``, such as ``html_502=0.05``.
    """
    arguments = map(str, (*account, latency, prepared or account.days, *faults))
    command = [sys.executable, "-m", "benchmarks.service", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin
        assert process.stdout
        try:
            yield process.stdout.readline().strip()
        finally:
            process.stdin.close()
            process.wait()


def main(*arguments: str) -> None:
    *counts, seconds, newest_days = arguments[:7]
    account = Account(*map(int, counts))
    if arguments[7:]:
        _serve_faults(account, [*arguments[7:]])
        return
    ready = Answers(account)
    ready.prepare(int(newest_days))
    asyncio.run(_serve(ready, float(seconds)))


if __name__ == "__main__":
    main(*sys.argv[1:])
