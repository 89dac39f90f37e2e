"""The service behind an in-memory network: the sandbox's own responses as bytes, with faults and delays in virtual time."""

import json
import random
import socket
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, cast

import httpcore

from etl.extract import transport
from etl.models import Measures
from etl.money import round_to_nanodollars
from etl.sandbox.behaviour import BALANCE_METHOD, ApiQuery, Behaviour, Fault, FaultKind, parse_query
from etl.sandbox.dataset import Dataset
from etl.sandbox.responses import Response
from etl.sandbox.server import DRIP_PIECES, Sandbox
from tests.simulator.scheduler import Scheduler
from tests.simulator.spending import Spending

WRONG_DATA = (FaultKind.NEGATIVE, FaultKind.NULL_DATA, FaultKind.NO_DATA)
"""Successful responses whose numbers are not those of the service data."""

CONNECT, DNS, TIMEOUT = "connect", "dns", "connect_timeout"
BEFORE_SENDING = (CONNECT, DNS, TIMEOUT)

_ENDLESS = 2**20 + 2**16


@dataclass
class Exchange:
    """One request as the service saw it. ``as_of`` is the true time of its numbers, ``body`` what was sent."""

    query: ApiQuery
    as_of: datetime
    body: bytes
    fault: str | None
    is_first_of_its_name: bool = False
    _hours: dict[datetime, Measures] | None = field(default=None, repr=False)

    @property
    def is_wrong(self) -> bool:
        return self.fault in WRONG_DATA

    @property
    def hours(self) -> dict[datetime, Measures]:
        """The hours of the body, parsed without the program's parser; of two records of an hour the larger wins."""
        if self._hours is None:
            self._hours = _hours(self.body)
        return self._hours


def _hours(body: bytes) -> dict[datetime, Measures]:
    hours: dict[datetime, Measures] = {}
    with suppress(ValueError, TypeError, KeyError, AttributeError):
        data = json.loads(body, parse_float=Decimal).get("data") or []
        for record in data.values() if isinstance(data, dict) else data:
            with suppress(InvalidOperation, ValueError):
                value = Measures(int(record["volume"]), _rounded(Decimal(record["money"])))
                hour = datetime.fromtimestamp(record["dateFrom"], UTC)
                if value.volume >= 0 and value.money.is_finite():
                    hours[hour] = max(value, hours.get(hour, value))
    return hours


def _balance(body: bytes) -> Iterator[Decimal]:
    with suppress(ValueError, TypeError, KeyError, AttributeError, InvalidOperation):
        yield _rounded(Decimal(json.loads(body, parse_float=Decimal)["balance"]))


def _rounded(money: Decimal) -> Decimal:
    whole = round_to_nanodollars((money,))
    return money if whole is None else Decimal(whole[0]).scaleb(-9)


class Service(Sandbox):
    """The sandbox with the faults of a night. ``choose_fault`` is asked once for each request."""

    def __init__(self, spending: Spending, behaviour: Behaviour, now: Callable[[], datetime]) -> None:
        super().__init__(cast("Dataset", spending), behaviour, now=now)
        self.choose_fault: Callable[[ApiQuery, int], Fault | None] = lambda query, attempt: None
        self.choose_connection: Callable[[], str | None] = lambda: None
        self.choose_delay: Callable[[], float] = lambda: 0.1
        self.choose_balance_fault: Callable[[], Fault | None] = lambda: None
        self.exchanges = 0
        self.balances: list[Decimal] = []
        """As they were sent, in dollars."""
        self.faults_seen: dict[str, int] = {}

    def begin_night(self) -> None:
        self._attempts.clear()
        self._requests.clear()

    def _next_fault(self, query: ApiQuery, path: str) -> Fault | None:
        if path == BALANCE_METHOD:
            return self.choose_balance_fault()
        attempt = self._attempts[query] = self._attempts.get(query, 0) + 1
        return self.choose_fault(query, attempt)

    def answer(self, path: str, content: bytes) -> tuple[Response, Exchange]:
        """Decide the response to a request's body, now."""
        self.exchanges += 1
        response = self.respond(path, content)
        if path == BALANCE_METHOD:
            self.balances += _balance(response.body)
        _, query = parse_query(content)
        kind = self._requests[-1].fault
        self._requests.clear()
        if kind:
            self.count_fault(kind.value)
        return response, Exchange(query or ApiQuery(), self._now(), response.body, kind)

    def count_fault(self, name: str) -> None:
        self.faults_seen[name] = self.faults_seen.get(name, 0) + 1


# ---------------------------------------------------------------- the network


def network(service: Service, scheduler: Scheduler) -> type[transport._Network]:
    """The class that takes the place of the program's own network: its deadlines, over streams of this module."""

    class Network(transport._Network):
        def connect_tcp(
            self,
            host: str,
            port: int,
            timeout: float | None = None,
            local_address: Any = None,
            socket_options: Any = None,
        ) -> httpcore.NetworkStream:
            limit = self._deadline.limit(timeout)
            kind = service.choose_connection()
            if kind:
                service.count_fault(kind)
                _refuse(kind, scheduler, limit)
            return transport._Stream(_Stream(service, scheduler), self._deadline)

    return Network


def _refuse(kind: str, scheduler: Scheduler, limit: float) -> None:
    if kind == TIMEOUT:
        scheduler.sleep(limit)
        raise httpcore.ConnectTimeout("timed out")
    scheduler.sleep(0.01)
    if kind == DNS:
        raise httpcore.ConnectError("name not known") from socket.gaierror(-2, "Name or service not known")
    raise httpcore.ConnectError("connection refused")


class _Stream(httpcore.NetworkStream):
    """The client's end of a connection: what arrives, and when."""

    def __init__(self, service: Service, scheduler: Scheduler) -> None:
        self._service, self._scheduler = service, scheduler
        self._received = b""
        self._decides_at: float | None = None
        self._arrivals: list[tuple[float, bytes | None]] = []
        self._is_closed = False

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        if self._is_closed:
            raise httpcore.WriteError("closed")
        self._received += buffer
        self._decides_at = self._scheduler.seconds + self._service.choose_delay()
        self._scheduler.current.memo["exchange"] = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        ends = self._scheduler.seconds + (timeout or 1e9)
        if self._decides_at is not None:
            self._sleep_until(self._decides_at, ends)
            self._decide()
        if not self._arrivals:
            if self._is_closed:
                return b""
            self._sleep_until(ends + 1, ends)
        at, data = self._arrivals[0]
        self._sleep_until(at, ends)
        if data is None:
            self._is_closed = True
            raise httpcore.ReadError("connection reset by peer")
        if not data:
            self._is_closed = True
            self._arrivals.clear()
            return b""
        self._arrivals[0] = (at, data[max_bytes:])
        if not data[max_bytes:]:
            del self._arrivals[0]
        return data[:max_bytes]

    def _sleep_until(self, at: float, ends: float) -> None:
        if at > ends:
            self._scheduler.sleep(ends - self._scheduler.seconds)
            raise httpcore.ReadTimeout("timed out")
        if at > self._scheduler.seconds:
            self._scheduler.sleep(at - self._scheduler.seconds)

    def _decide(self) -> None:
        head, _, content = self._received.partition(b"\r\n\r\n")
        self._received, self._decides_at = b"", None
        response, exchange = self._service.answer(head.split(b" ", 2)[1].decode(), content)
        self._scheduler.current.memo["exchange"] = exchange
        self._arrivals = list(self._plan(response, exchange))

    def _plan(self, response: Response, exchange: Exchange) -> list[tuple[float, bytes | None]]:
        now, body, fault = self._scheduler.seconds, response.body, response.fault
        at = now + self._service.choose_delay()
        head = response.head(len(body))
        match fault.kind if fault else None:
            case FaultKind.TRUNCATED:
                exchange.body = body[: len(body) // 2]
                return [(at, response.head(len(exchange.body)) + exchange.body)]
            case FaultKind.HALF_SENT:
                return [(at, head + body[: len(body) // 2]), (at, b"")]
            case FaultKind.RESET:
                return [(at, None)]
            case FaultKind.HANG if fault:
                return [(at + fault.seconds, head + body)]
            case FaultKind.SLOW_DRIP if fault:
                size = max(1, -(-len(body) // DRIP_PIECES))
                pieces = [body[start : start + size] for start in range(0, len(body), size)]
                return [
                    (at, head),
                    *((at + (n + 1) * fault.seconds / DRIP_PIECES, piece) for n, piece in enumerate(pieces)),
                ]
            case FaultKind.ENDLESS:
                return [(at, response.head(None) + body[:-2] + b" " * _ENDLESS)]
        return [(at, head + body)]

    def close(self) -> None:
        self._is_closed = True

    def get_extra_info(self, info: str) -> Any:
        return self._is_closed if info == "is_readable" else None


def shifted(moment: datetime, seconds: int) -> datetime:
    return moment - timedelta(seconds=seconds)


def draw(*parts: object) -> random.Random:
    """A source of randomness that depends on its parts alone."""
    return random.Random("/".join(map(str, parts)))
