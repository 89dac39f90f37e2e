"""The stand-in API over real HTTP on 127.0.0.1: every unknown of the real service selectable, every fault on request.

A request is decided first (`Sandbox.decide`) and sent afterwards.
Keys are compared and forgotten: they are neither logged nor echoed.
"""

import hashlib
import json
import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Container, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from email.utils import format_datetime
from enum import StrEnum
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self

from etl.clock import Clock
from etl.sandbox.dataset import DAY, HOUR, Dataset

METHOD = "/getSpendingStats"
BODY_LIMIT = 65_536


# ---------------------------------------------------------------- how the service behaves


@dataclass(frozen=True, slots=True)
class Behaviour:
    """What nobody has written down about the real service. The defaults are the likeliest reading of what is known.

    ``idle``: hours without spend come as zeros or are left out. ``buckets``: records an answer spans.
    ``numbers``: JSON numbers; strings; or numbers with float noise and exponents. ``listed``: ``[…]`` or ``{"0":…}``.
    ``unknown_queue``: the error ERROR_INCORRECT_QUEUE (an invented code: the real one is unknown), zeros, or all queues' totals.
    ``off_hour``: a `date` inside an hour is moved back to the hour's start, or shifts every bucket.
    ``grid_seconds``: where buckets begin beside the whole hour; -900 is :45, as in the vendor's example.
    ``running``, ``unbegun``: whether the hour now running, and hours not begun (as zeros), are in answers.
    ``foreign_app``, ``foreign_ip``: a softId that is not the account's, and an IP that never called, is refused with
    ERROR_ACCESS_DENIED, spends nothing, or is not heard: the answer is that of a request without it.
    ``retention_days``: a `date` older than this gives an empty answer.
    ``duplicates``: one record of each answer comes twice: identical, or the first time with smaller numbers.
    ``refused_keys`` do not exist; when ``accepted_keys`` is given, no other key does.
    """

    idle: Literal["zero", "omit"] = "zero"
    buckets: Literal[23, 24, 25] = 24
    numbers: Literal["number", "string", "noise"] = "number"
    listed: Literal["array", "object"] = "array"
    unknown_queue: Literal["error", "zeros", "totals"] = "error"
    off_hour: Literal["snap", "shift"] = "snap"
    grid_seconds: int = 0
    running: bool = True
    unbegun: bool = False
    foreign_app: Literal["error", "zeros", "totals"] = "error"
    foreign_ip: Literal["zeros", "totals", "error"] = "zeros"
    retention_days: int | None = None
    duplicates: Literal["none", "identical", "differing"] = "none"
    latency_seconds: float = 0
    date_skew_seconds: int = 0
    accepted_keys: frozenset[str] | None = field(default=None, repr=False)
    refused_keys: frozenset[str] = field(default=frozenset(), repr=False)

    def knows(self, key: object) -> bool:
        if not isinstance(key, str) or not key or key in self.refused_keys:
            return False
        return self.accepted_keys is None or key in self.accepted_keys


class FaultKind(StrEnum):
    """What can go wrong, in the service, in front of it or on the way."""

    # the API's own errors
    REFUSE_KEY = "refuse_key"
    IP_BLOCKED = "ip_blocked"
    SUSPENDED = "suspended"
    IP_NOT_ALLOWED = "ip_not_allowed"
    ZERO_BALANCE = "zero_balance"
    ACCESS_DENIED = "access_denied"
    UNKNOWN_CODE = "unknown_code"
    NO_SLOT = "no_slot"
    # another server answers
    HTML = "html"
    HTML_500 = "html_500"
    HTML_502 = "html_502"
    HTML_503 = "html_503"
    RETRY_AFTER = "retry_after"
    REDIRECT = "redirect"
    EMPTY = "empty"
    # on the way
    CUT = "cut"
    HALF_SENT = "half_sent"
    RESET = "reset"
    HANG = "hang"
    SLOW_DRIP = "slow_drip"
    ENDLESS = "endless"
    # an answer with something wrong in it; an error answer passes unchanged
    NAN = "nan"
    NEGATIVE = "negative"
    NEGATIVE_VOLUME = "negative_volume"
    VENDOR_PAGE = "vendor_page"
    VENDOR_EXAMPLE = "vendor_example"
    ERROR_ID_STRING = "error_id_string"
    NULL_DATA = "null_data"
    NO_DATA = "no_data"


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of fault and the requests it strikes: those that meet every condition given; with none given, all.

    ``rate``: this part of them, 0 to 1, by a draw on the request and its attempt, so the same whatever the concurrency.
    ``numbers``: which requests of the sandbox's life, from 1. ``attempts``: which askings of the same thing, from 1, counted
    since the faults were last set; ``(1,)`` spares every retry. ``days``: UTC days of `date`. ``queues``, ``soft_ids``, ``ips``: as
    sent; None is a request without one. ``seconds``: how long `hang` is silent or `slow_drip` takes. ``retry_after``: that
    header's text.
    """

    kind: FaultKind
    rate: float = 1
    numbers: tuple[int, ...] = ()
    attempts: tuple[int, ...] = ()
    days: tuple[date, ...] = ()
    queues: tuple[str | None, ...] = ()
    soft_ids: tuple[int | None, ...] = ()
    ips: tuple[str | None, ...] = ()
    seconds: float = 1
    retry_after: str = "1"

    def strikes(self, ask: "ApiQuery", number: int, attempt: int, seed: int) -> bool:
        return (
            (not self.numbers or number in self.numbers)
            and (not self.attempts or attempt in self.attempts)
            and (not self.days or _utc_day(ask.date) in self.days)
            and (not self.queues or ask.queue in self.queues)
            and (not self.soft_ids or ask.soft_id in self.soft_ids)
            and (not self.ips or ask.ip in self.ips)
            and (self.rate >= 1 or _chance(seed, self.kind, *ask, attempt) < self.rate)
        )


def _utc_day(second: int | None) -> date | None:
    with suppress(OverflowError, OSError, ValueError):  # a second beyond every calendar is on no day
        return None if second is None else datetime.fromtimestamp(second, UTC).date()
    return None


def _chance(*words: object) -> float:
    return int.from_bytes(hashlib.blake2b(repr(words).encode(), digest_size=4).digest()) / 2**32


# ---------------------------------------------------------------- what is asked


class ApiQuery(NamedTuple):
    """What a request asked for, its key apart. ``date`` is Unix seconds as sent."""

    date: int | None = None
    queue: str | None = None
    soft_id: int | None = None
    ip: str | None = None


@dataclass(frozen=True, slots=True)
class Request:
    """One line of the sandbox's log. ``date`` is Unix seconds as sent; ``status`` is None when nothing of HTTP went back."""

    at: datetime
    key_ok: bool
    date: int | None
    queue: str | None
    soft_id: int | None
    ip: str | None
    fault: FaultKind | None
    status: int | None
    path: str = METHOD


def _parse(body: bytes) -> tuple[object, ApiQuery | None]:
    """The key and what was asked; None for what is not a request of this method."""
    try:
        asked = json.loads(body)
    except ValueError:
        return None, None
    if not isinstance(asked, dict):
        return None, None
    kinds = {"clientKey": str, "date": int, "queue": str, "softId": int, "ip": str}
    if any(type(value) is not kinds.get(name) for name, value in asked.items()):
        return asked.get("clientKey"), None
    return asked.get("clientKey"), ApiQuery(asked.get("date"), asked.get("queue"), asked.get("softId"), asked.get("ip"))


# ---------------------------------------------------------------- what is answered


class ApiError(NamedTuple):
    error_id: int
    code: str
    description: str


KEY_DOES_NOT_EXIST = ApiError(1, "ERROR_KEY_DOES_NOT_EXIST", "Account authorization key not found in the system")
NO_SUCH_METHOD = ApiError(14, "ERROR_NO_SUCH_METHOD", "Request made to API with method which does not exist")
ACCESS_DENIED = ApiError(
    60, "ERROR_ACCESS_DENIED", "You have no access to what you asked for"
)  # the number is invented
INCORRECT_QUEUE = ApiError(
    61, "ERROR_INCORRECT_QUEUE", "Queue not found"
)  # invented: what the service gives is unknown
INCORRECT_REQUEST = ApiError(
    62, "ERROR_INCORRECT_REQUEST", "UnknownNameAnswer or mistyped property"
)  # invented: strictness finds defects

API_FAULTS = {
    FaultKind.REFUSE_KEY: KEY_DOES_NOT_EXIST,
    FaultKind.IP_BLOCKED: ApiError(21, "ERROR_IP_BLOCKED", "Your IP is blocked due to improper API usage"),
    FaultKind.SUSPENDED: ApiError(55, "ERROR_ACCOUNT_SUSPENDED", "Account is suspended"),
    FaultKind.IP_NOT_ALLOWED: ApiError(
        11, "ERROR_IP_NOT_ALLOWED", "Request with current account key is not allowed from your IP"
    ),
    FaultKind.ZERO_BALANCE: ApiError(10, "ERROR_ZERO_BALANCE", "Account has zero or negative balance"),
    FaultKind.ACCESS_DENIED: ACCESS_DENIED,
    FaultKind.UNKNOWN_CODE: ApiError(12, "ERROR_NEVER_SEEN_BEFORE", "Something new"),
    FaultKind.NO_SLOT: ApiError(2, "ERROR_NO_SLOT_AVAILABLE", "No idle workers are available at the moment"),
}
HTML_FAULTS = {FaultKind.HTML: 200, FaultKind.HTML_500: 500, FaultKind.HTML_502: 502, FaultKind.HTML_503: 503}

VENDOR_RECORDS = (
    '{"dateFrom":1550533500,"dateTill":1550537099,"volume":1899,"money":7.495948}',
    '{"dateFrom":1550537100,"dateTill":1550540699,"volume":2217,"money":7.861741}',
    '{"dateFrom":1550612700,"dateTill":1550616299,"volume":2156,"money":7.827058}',
)
VENDOR_EXAMPLE = f'{{"errorId":0,"data":[{",".join(VENDOR_RECORDS)}]}}'
VENDOR_PAGE = f'{{"errorId":0,"data":[{VENDOR_RECORDS[0]},\n{VENDOR_RECORDS[1]},\n.....\n{VENDOR_RECORDS[2]}]}}'


class Record(NamedTuple):
    """One bucket of an answer, beginning at a Unix second."""

    date_from: int
    volume: int
    money: Decimal


def records(dataset: Dataset, behaviour: Behaviour, ask: ApiQuery, now: int) -> list[Record] | ApiError:
    """What the service answers at a Unix second."""
    heard = _heard(dataset, behaviour, ask)
    if isinstance(heard, ApiError):
        return heard
    ask = heard
    date_from = now - DAY if ask.date is None else ask.date
    if behaviour.retention_days is not None and date_from < now - behaviour.retention_days * DAY:
        return []
    # The whole history is told on another grid by moving the axis of time under it.
    start, as_of = date_from - behaviour.grid_seconds, now - behaviour.grid_seconds
    if ask.date is not None and behaviour.off_hour == "snap":
        start -= start % HOUR
    until = start + behaviour.buckets * HOUR
    if not behaviour.unbegun:
        until = min(until, as_of if behaviour.running else as_of - HOUR + 1)
    stored_facts = [
        Record(bucket + behaviour.grid_seconds, *_bucket(dataset, ask, bucket, as_of))
        for bucket in range(start, until, HOUR)
    ]
    kept = (
        stored_facts
        if behaviour.idle == "zero"
        else [record for record in stored_facts if record.volume or record.money]
    )
    return _with_duplicate(kept, behaviour.duplicates)


def _heard(dataset: Dataset, behaviour: Behaviour, ask: ApiQuery) -> ApiQuery | ApiError:
    """What the service takes a request for: a stranger in it is refused, kept (it spent nothing), or not heard."""
    series_keys: tuple[tuple[str, Container[object], str, ApiError], ...] = (
        ("queue", dataset.names, behaviour.unknown_queue, INCORRECT_QUEUE),
        ("soft_id", dataset.apps, behaviour.foreign_app, ACCESS_DENIED),
        ("ip", dataset.ips, behaviour.foreign_ip, ACCESS_DENIED),
    )
    for name, known, answer, error in series_keys:
        member = getattr(ask, name)
        if member is None or member in known or answer == "zeros":
            continue
        if answer == "error":
            return error
        ask = ask._replace(**{name: None})
    return ask


def _bucket(dataset: Dataset, ask: ApiQuery, start: int, as_of: int) -> tuple[int, Decimal]:
    """One hour from any second on: inside an hour, the parts of the two hours it lies on, in proportion."""
    volume, money = _hour(dataset, ask, start, as_of)
    second = start % HOUR
    if second == 0:
        return volume, money
    if ask.queue is None:  # each queue's parts are rounded, and so they add up
        parts = [_bucket(dataset, ask._replace(queue=name), start, as_of) for name in dataset.names]
        return sum(volume for volume, _ in parts), sum((money for _, money in parts), Decimal(0))
    next_volume, next_money = _hour(dataset, ask, start + HOUR, as_of)
    cent = Decimal(1).scaleb(-dataset.places)
    return (
        volume - volume * second // HOUR + next_volume * second // HOUR,
        money - (money * second / HOUR).quantize(cent) + (next_money * second / HOUR).quantize(cent),
    )


def _hour(dataset: Dataset, ask: ApiQuery, second: int, as_of: int) -> tuple[int, Decimal]:
    day, unattributed = divmod(second, DAY)
    return dataset.day(day, as_of, ask.queue, ask.soft_id, ask.ip)[unattributed // HOUR]


def _with_duplicate(kept: list[Record], duplicates: Literal["none", "identical", "differing"]) -> list[Record]:
    if duplicates == "none" or not kept:
        return kept
    middle = len(kept) // 2
    twin = kept[middle]
    if duplicates == "differing":
        twin = twin._replace(volume=twin.volume // 2, money=(twin.money / 2).quantize(twin.money))
    return [*kept[:middle], twin, *kept[middle:]]


def _text(record: Record, numbers: Literal["number", "string", "noise"]) -> str:
    date_from, volume, money = record
    quote = '"' if numbers == "string" else ""
    amount = _noise(money) if numbers == "noise" else f"{money:f}" if numbers == "string" else _plain(money)
    return (
        f'{{"dateFrom":{date_from},"dateTill":{date_from + HOUR - 1},'
        f'"volume":{quote}{volume}{quote},"money":{quote}{amount}{quote}}}'
    )


def _plain(money: Decimal) -> str:
    return f"{money:f}".rstrip("0").rstrip(".") if money else "0"


def _noise(money: Decimal) -> str:
    """As PHP prints a float with 17 digits; amounts below a dollar with an exponent, as it prints very small ones."""
    if not money or not money.is_finite():
        return f"{money:f}" if money else "0"
    digits = f"{float(money):.17g}"
    return digits if abs(money) >= 1 else f"{Decimal(digits):e}"


def _success(kept: list[Record], behaviour: Behaviour) -> str:
    texts = [_text(record, behaviour.numbers) for record in kept]
    if behaviour.listed == "object":
        return '{"errorId":0,"data":{' + ",".join(f'"{place}":{text}' for place, text in enumerate(texts)) + "}}"
    return '{"errorId":0,"data":[' + ",".join(texts) + "]}"


def _error(error: ApiError) -> str:
    return json.dumps({"errorId": error.error_id, "errorCode": error.code, "errorDescription": error.description})


def _spoiled(fault: FaultKind | None, kept: list[Record], behaviour: Behaviour) -> str:
    """A success with the fault's blemish on it, when the fault is of that sort."""
    match fault:
        case FaultKind.NAN | FaultKind.NEGATIVE | FaultKind.NEGATIVE_VOLUME if kept:
            place = max(range(len(kept)), key=lambda index: kept[index].money)
            kept = [*kept[:place], _blemished(fault, kept[place]), *kept[place + 1 :]]
            return _success(kept, behaviour)
        case FaultKind.VENDOR_PAGE:
            return VENDOR_PAGE
        case FaultKind.VENDOR_EXAMPLE:
            return VENDOR_EXAMPLE
        case FaultKind.ERROR_ID_STRING:
            return _success(kept, behaviour).replace('"errorId":0', '"errorId":"0"')
        case FaultKind.NULL_DATA:
            return '{"errorId":0,"data":null}'
        case FaultKind.NO_DATA:
            return '{"errorId":0}'
    return _success(kept, behaviour)


def _blemished(fault: FaultKind, record: Record) -> Record:
    if fault is FaultKind.NAN:
        return record._replace(money=Decimal("NaN"))
    if fault is FaultKind.NEGATIVE:
        return record._replace(money=-max(record.money, Decimal("0.000001")))
    return record._replace(volume=-max(record.volume, 1))


# ---------------------------------------------------------------- the server

DRIPS = 20
PAGE = """A stand-in for the Anti-Captcha API, with made-up spending. It is no part of the real service.

POST {url}{method} answers as the real method does; any non-empty key will do.

To point anticaptcha-etl at it:

    export ANTICAPTCHA_API_URL={url}
    export ANTICAPTCHA_CLIENT_KEY=any-text
    anticaptcha-etl --warehouse sandbox.duckdb sync
"""


@dataclass(frozen=True, slots=True)
class _Reply:
    """What goes back, and with ``fault`` the manner of sending it."""

    body: bytes
    status: int = 200
    content_type: str = "application/json; charset=utf-8"
    headers: tuple[tuple[str, str], ...] = ()
    fault: Fault | None = None
    at: datetime | None = None

    def head(self, length: int | None) -> bytes:
        lines = [
            f"HTTP/1.1 {self.status} {HTTPStatus(self.status).phrase}",
            "Server: sandbox",
            *([f"Date: {format_datetime(self.at, usegmt=True)}"] if self.at else []),
            f"Content-Type: {self.content_type}",
            *(f"{name}: {value}" for name, value in self.headers),
            "Connection: close" if length is None else f"Content-Length: {length}",
        ]
        return "\r\n".join((*lines, "", "")).encode("latin-1")


def _reply(fault: Fault | None, answer: list[Record] | ApiError, behaviour: Behaviour) -> _Reply:
    kind = fault.kind if fault else None
    if fault and kind in API_FAULTS:
        return _Reply(_error(API_FAULTS[kind]).encode())
    if fault and kind in HTML_FAULTS:
        page = "<!DOCTYPE html><html><head><title>Just a moment...</title></head><body><h1>Sorry</h1></body></html>"
        return _Reply(page.encode(), HTML_FAULTS[kind], "text/html; charset=utf-8")
    if fault and kind is FaultKind.RETRY_AFTER:
        return _Reply(b"Too many requests", 429, "text/plain", (("Retry-After", fault.retry_after),))
    if fault and kind is FaultKind.REDIRECT:
        return _Reply(b"", 302, "text/plain", (("Location", "/elsewhere"),))
    if fault and kind is FaultKind.EMPTY:
        return _Reply(b"")
    text = _error(answer) if isinstance(answer, ApiError) else _spoiled(kind, answer, behaviour)
    return _Reply(text.encode(), fault=fault)


_CLOCK = Clock()


class Sandbox:
    """The service on a port of 127.0.0.1, from ``with`` to the end of the block; any other address is not on offer.

    ``now`` gives aware times and is asked once a request. ``behaviour`` and ``faults`` may be set while it runs.
    """

    def __init__(
        self,
        dataset: Dataset,
        behaviour: Behaviour = Behaviour(),
        faults: tuple[Fault, ...] = (),
        now: Callable[[], datetime] = _CLOCK.now,
        port: int = 0,
    ) -> None:
        self.dataset = dataset
        self.behaviour = behaviour
        self._faults = faults
        self._now = now
        self._port = port
        self._requests: list[Request] = []
        self._attempts: dict[ApiQuery, int] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()

    def __enter__(self) -> Self:
        self._stopping.clear()
        self._server = _Server(self, self._port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="sandbox")
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """What `ANTICAPTCHA_API_URL` is set to."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def requests(self) -> tuple[Request, ...]:
        """Every request so far, in order of arrival."""
        with self._lock:
            return tuple(self._requests)

    @property
    def faults(self) -> tuple[Fault, ...]:
        return self._faults

    @faults.setter
    def faults(self, faults: tuple[Fault, ...]) -> None:
        with self._lock:
            self._faults = faults
            self._attempts.clear()

    def expected_rows(
        self, since: date, until: date, as_of: datetime | None = None
    ) -> Iterator[tuple[str, datetime, int, Decimal]]:
        """``Dataset.expected_rows`` as this service would tell them now (or at ``as_of``); both days inclusive.

        On another grid a day is the 24 buckets that a `date` of its midnight gives.
        """
        shift = timedelta(seconds=self.behaviour.grid_seconds)
        for queue, hour_start, volume, money in self.dataset.expected_rows(
            since, until, (as_of or self._now()) - shift
        ):
            yield queue, hour_start + shift, volume, money

    def decide(self, path: str, body: bytes) -> _Reply:
        """Answer a POST and write it in the log."""
        at, behaviour = self._now(), self.behaviour
        key, ask = _parse(body)
        key_ok = behaviour.knows(key)
        with self._lock:
            fault = self._fault(ask) if ask and path == METHOD else None
            answer: list[Record] | ApiError
            if path != METHOD:
                answer = NO_SUCH_METHOD
            elif not key_ok:
                answer = KEY_DOES_NOT_EXIST
            elif ask is None:
                answer = INCORRECT_REQUEST
            else:
                answer = records(self.dataset, behaviour, ask, int(at.timestamp()))
            reply = _reply(fault, answer, behaviour)
            kind = fault.kind if fault else None
            status = None if kind is FaultKind.RESET else reply.status
            self._requests.append(Request(at, key_ok, *(ask or ApiQuery()), kind, status, path))
        return replace(reply, at=self._told(at))

    def welcome(self) -> _Reply:
        """The page for a person who opens the address in a browser."""
        page = PAGE.format(url=self.url, method=METHOD).encode()
        return _Reply(page, content_type="text/plain; charset=utf-8", at=self._told(self._now()))

    def _told(self, at: datetime) -> datetime:
        """What a reply says the time is."""
        return at + timedelta(seconds=self.behaviour.date_skew_seconds)

    def _fault(self, ask: ApiQuery) -> Fault | None:
        attempt = self._attempts[ask] = self._attempts.get(ask, 0) + 1
        number = len(self._requests) + 1
        return next((fault for fault in self._faults if fault.strikes(ask, number, attempt, self.dataset.seed)), None)

    def pause(self, seconds: float) -> None:
        """Wait, but not beyond the sandbox's end."""
        self._stopping.wait(seconds)

    @property
    def is_stopping(self) -> bool:
        return self._stopping.is_set()


def run_forever(sandbox: Sandbox, announce: Callable[[str], None]) -> None:
    """Serve people: say the URL, then block the main thread until SIGINT or SIGTERM, and close."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with sandbox:
            announce(sandbox.url)
            threading.Event().wait()
    except KeyboardInterrupt:
        return
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class _Server(ThreadingHTTPServer):
    daemon_threads = False  # so that closing waits for them, and nothing is left behind
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self._open: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _Exchange)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer's own asks DNS for this machine's name

    def process_request(self, request: Any, client_address: Any) -> None:
        self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in tuple(self._open):  # wakes the threads that wait for a next request, or for a reader
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # a client that goes away is no event
            super().handle_error(request, client_address)


class _Exchange(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_LIMIT:
            self.close_connection = True
            length = "0"
        self._send(self.server.sandbox.decide(self.path, self.rfile.read(int(length))))

    def do_GET(self) -> None:
        sandbox = self.server.sandbox
        self._send(sandbox.welcome() if self.path == "/" else sandbox.decide(self.path, b""))

    def log_message(self, format: str, *args: Any) -> None:
        """The log is ``Sandbox.requests``."""

    def _send(self, reply: _Reply) -> None:
        sandbox, body, fault = self.server.sandbox, reply.body, reply.fault
        sandbox.pause(sandbox.behaviour.latency_seconds)
        match fault.kind if fault else None:
            case FaultKind.CUT:
                body = body[: len(body) // 2]
            case FaultKind.HALF_SENT:
                self.close_connection = True
                self.wfile.write(reply.head(len(body)) + body[: len(body) // 2])
                return
            case FaultKind.RESET:
                self._reset()
                return
            case FaultKind.HANG if fault:
                sandbox.pause(fault.seconds)
            case FaultKind.SLOW_DRIP if fault:
                self._drip(reply, fault.seconds)
                return
            case FaultKind.ENDLESS:
                self._pour(reply)
                return
        self.wfile.write(reply.head(len(body)) + body)  # in one piece: no packet waits for another's receipt

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # or the socket would stay open for it, and be closed politely later
        self.connection.close()

    def _drip(self, reply: _Reply, seconds: float) -> None:
        self.wfile.write(reply.head(len(reply.body)))
        size = -(-len(reply.body) // DRIPS)
        for start in range(0, len(reply.body), size):
            self.server.sandbox.pause(seconds / DRIPS)
            self.wfile.write(reply.body[start : start + size])

    def _pour(self, reply: _Reply) -> None:
        self.close_connection = True
        self.wfile.write(reply.head(None) + reply.body[:-2])
        more = b" " * BODY_LIMIT
        while not self.server.sandbox.is_stopping:
            self.wfile.write(more)
