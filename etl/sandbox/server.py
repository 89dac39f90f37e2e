"""The stand-in API over HTTP on 127.0.0.1. A response is decided first (`Sandbox.respond`), then sent.

Keys are compared and forgotten: they are neither logged nor echoed.
"""

import signal
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import replace
from datetime import date, datetime, timedelta
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socketserver import TCPServer
from typing import Any, Self

from etl.clock import Clock
from etl.sandbox import responses
from etl.sandbox.behaviour import BALANCE_METHOD, METHOD, ApiQuery, Behaviour, Fault, FaultKind, Request, parse_query
from etl.sandbox.dataset import Dataset
from etl.sandbox.responses import ApiError, Record, Response

BODY_LIMIT = 65_536
DRIP_PIECES = 20
WELCOME_PAGE = """A stand-in for the Anti-Captcha API with synthetic spending. Not part of the real service.

POST {url}{method} answers like the real method; any non-empty key works.

To point anticaptcha-etl at it:

    export ANTICAPTCHA_API_URL={url}
    export ANTICAPTCHA_CLIENT_KEY=any-text
    anticaptcha-etl --warehouse sandbox.duckdb sync
"""

_CLOCK = Clock()
_DEFAULTS = Behaviour()


class Sandbox:
    """A context manager that serves the API on a port of 127.0.0.1, never on another address.

    ``now`` is called once per request. ``behaviour`` and ``faults`` may be changed while it runs. ``stopping`` is set
    at the end of the block and interrupts every delayed response.
    """

    def __init__(
        self,
        dataset: Dataset,
        behaviour: Behaviour = _DEFAULTS,
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
        self.stopping = threading.Event()

    def __enter__(self) -> Self:
        self.stopping.clear()
        self._server = _Server(self, self._port)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,), name="sandbox")
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stopping.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """The value for `ANTICAPTCHA_API_URL`."""
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
        """Return ``Dataset.expected_rows`` as reported now (or at ``as_of``), shifted to this API's hour grid."""
        shift = timedelta(seconds=self.behaviour.grid_seconds)
        rows = self.dataset.expected_rows(since, until, (as_of or self._now()) - shift)
        return ((queue, hour_start + shift, volume, money) for queue, hour_start, volume, money in rows)

    def respond(self, path: str, body: bytes) -> Response:
        """Decide the response to a POST and log the request."""
        now, behaviour = self._now(), self.behaviour
        key, query = parse_query(body)
        is_accepted = behaviour.accepts(key)
        with self._lock:
            fault = self._next_fault(query, path) if query and path in (METHOD, BALANCE_METHOD) else None
            answer: list[Record] | ApiError | str
            if path == BALANCE_METHOD and is_accepted:
                answer = responses.balance(self.dataset, behaviour, now)
            elif path != METHOD:
                answer = responses.NO_SUCH_METHOD
            elif not is_accepted:
                answer = responses.KEY_DOES_NOT_EXIST
            elif query is None:
                answer = responses.INCORRECT_REQUEST
            else:
                answer = responses.records(self.dataset, behaviour, query, int(now.timestamp()))
            response = responses.response(fault, answer, behaviour)
            kind = fault.kind if fault else None
            status = None if kind is FaultKind.RESET else response.status
            self._requests.append(Request(now, is_accepted, *(query or ApiQuery()), kind, status, path))
        return replace(response, date=self._server_time(now))

    def welcome(self) -> Response:
        """Return the page for people who open the address in a browser."""
        page = WELCOME_PAGE.format(url=self.url, method=METHOD).encode()
        return Response(page, content_type="text/plain; charset=utf-8", date=self._server_time(self._now()))

    def _server_time(self, now: datetime) -> datetime:
        return now + timedelta(seconds=self.behaviour.date_skew_seconds)

    def _next_fault(self, query: ApiQuery, path: str) -> Fault | None:
        if path == BALANCE_METHOD:
            return next((fault for fault in self._faults if fault.of_balance), None)
        attempt = self._attempts[query] = self._attempts.get(query, 0) + 1
        number, seed = len(self._requests) + 1, self.dataset.seed
        return next((fault for fault in self._faults if fault.matches(query, number, attempt, seed)), None)


def run_forever(sandbox: Sandbox, announce: Callable[[str], None]) -> None:
    """Serve until SIGINT or SIGTERM. Calls ``announce`` with the URL once the port is open."""
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
    daemon_threads = False  # closing waits for all of them
    request_queue_size = 128

    def __init__(self, sandbox: Sandbox, port: int) -> None:
        self.sandbox = sandbox
        self._connections: set[socket.socket] = set()
        super().__init__(("127.0.0.1", port), _RequestHandler)

    def server_bind(self) -> None:
        TCPServer.server_bind(self)  # HTTPServer.server_bind looks up this machine's name in DNS

    def process_request(self, request: Any, client_address: Any) -> None:
        self._connections.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        self._connections.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        for connection in tuple(self._connections):  # wakes threads that wait for a request or a slow reader
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        if not isinstance(sys.exception(), OSError):  # clients may disconnect at any time
            super().handle_error(request, client_address)


class _RequestHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Server

    def do_POST(self) -> None:
        length = self.headers.get("Content-Length", "")
        if not length.isdecimal() or int(length) > BODY_LIMIT:
            self.close_connection = True
            length = "0"
        self._send(self.server.sandbox.respond(self.path, self.rfile.read(int(length))))

    def do_GET(self) -> None:
        sandbox = self.server.sandbox
        self._send(sandbox.welcome() if self.path == "/" else sandbox.respond(self.path, b""))

    def log_message(self, format: str, *args: Any) -> None:
        """Log nothing: ``Sandbox.requests`` is the log."""

    def _send(self, response: Response) -> None:
        sandbox, body, fault = self.server.sandbox, response.body, response.fault
        sandbox.stopping.wait(sandbox.behaviour.latency_seconds)
        match fault.kind if fault else None:
            case FaultKind.TRUNCATED:
                body = body[: len(body) // 2]
            case FaultKind.HALF_SENT:
                self.close_connection = True
                self.wfile.write(response.head(len(body)) + body[: len(body) // 2])
                return
            case FaultKind.RESET:
                self._reset()
                return
            case FaultKind.HANG if fault:
                sandbox.stopping.wait(fault.seconds)
            case FaultKind.SLOW_DRIP if fault:
                self._send_slowly(response, fault.seconds)
                return
            case FaultKind.ENDLESS:
                self._send_endlessly(response)
                return
        self.wfile.write(response.head(len(body)) + body)  # one write, so Nagle and delayed ACK add no latency

    def _reset(self) -> None:
        self.close_connection = True
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.rfile.close()  # it keeps the socket open otherwise, which would then close without a reset
        self.connection.close()

    def _send_slowly(self, response: Response, seconds: float) -> None:
        self.wfile.write(response.head(len(response.body)))
        size = -(-len(response.body) // DRIP_PIECES)
        for start in range(0, len(response.body), size):
            self.server.sandbox.stopping.wait(seconds / DRIP_PIECES)
            self.wfile.write(response.body[start : start + size])

    def _send_endlessly(self, response: Response) -> None:
        self.close_connection = True
        self.wfile.write(response.head(None) + response.body[:-2])
        while not self.server.sandbox.stopping.is_set():
            self.wfile.write(b" " * BODY_LIMIT)
