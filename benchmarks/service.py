"""The service in a process of its own, its answers made beforehand: DAYS QUEUES AT_ONCE NIGHT LATENCY PREPARED. It says its URL.

The stand-in decides every answer, once; what then serves them costs a tenth of asking it. A request that nobody made before
is decided when it comes.
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
    """``at_once`` of its queues spend on any day, for 30 days at a stretch; all of them, where that is as many.

    ``days`` of history there were on the first night.
    """

    days: int
    queues: int
    at_once: int
    night: int = 0

    @property
    def begins(self) -> date:
        return NOW.date() - timedelta(days=self.days - 1)

    @property
    def now(self) -> datetime:
        """Everyone's time, which stands still."""
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
    """Bodies by what was asked. The account's clock stands still: every answer is the same whenever it is asked for."""

    def __init__(self, account: Account) -> None:
        self._stand_in = Sandbox(account.dataset, Behaviour(unknown_queue="zeros"), now=lambda: account.now)
        self._bodies: dict[bytes, bytes] = {}
        self._account = account

    def prepare(self, days: int) -> None:
        """The totals of so many days, the newest first, and every queue where it spends."""
        dataset = self._account.dataset
        newest = (self._account.now.date() - date(1970, 1, 1)).days
        for number in range(newest, newest - days, -1):
            for queue in (None, *(name for name in dataset.names if dataset.is_active(name, number))):
                asked = {"clientKey": "any", "date": number * 86_400, **({} if queue is None else {"queue": queue})}
                self.body(json.dumps(asked).encode())

    @property
    def date(self) -> bytes:
        """The Date header: the account's own clock, or no day would become final."""
        return format_datetime(self._account.now, usegmt=True).encode()

    def body(self, question: bytes) -> bytes:
        asked = json.loads(question)
        asked["clientKey"] = "any"
        key = json.dumps(asked, sort_keys=True).encode()
        if key not in self._bodies:
            self._bodies[key] = self._stand_in.respond(METHOD, key).body
        return self._bodies[key]


class _Peer(asyncio.Protocol):
    """One connection: a request after the other, each answered ``latency`` seconds after it came."""

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
    await loop.run_in_executor(None, sys.stdin.read)  # until who started it lets go


@contextmanager
def serving(account: Account, latency: float = 0, prepared: int | None = None) -> Iterator[str]:
    """The service's URL, to the end of the block; the answers of its newest days are ready, of all unless fewer are wanted."""
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
