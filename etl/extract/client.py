"""The only door to HTTP: one window in, one answer out."""

import ipaddress
import logging
import math
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import datetime
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, NamedTuple, Self
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from etl.clock import Clock
from etl.errors import UsageError
from etl.extract import protocol, retry
from etl.extract.planner.members import NONEXISTENT_MEMBERS
from etl.extract.rate_limit import POLL_INTERVAL, AccountRateLimiter, RateLimiter, wait_until
from etl.logging_setup import RateLimitedLogger
from etl.models import Window
from etl.responses import ApiError, InvalidResponse, ParsedResponse, Response, SuccessPayload, TransportError
from etl.secret import Secret

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 2**20
"""A longer body is not read to its end, and nothing of it is kept. A day of records is about 2 kB."""

_PIECE = 2**14
"""The most that is unpacked at once: a few bytes can be packed that unpack to gigabytes."""

_SHORTEST_MASKED = 8  # a shorter key could be an innocent part of any text


class Timeouts(NamedTuple):
    """Seconds. ``whole`` bounds one request from first to last byte; the others start anew with every byte."""

    connect: float = 10.0
    read: float = 60.0
    write: float = 10.0
    pool: float = 60.0
    whole: float = 120.0


TIMEOUTS = Timeouts()


class Cancelled(Exception):  # noqa: N818 - not an error: what ``ask`` was told to do
    """``stop`` was called before the window had its answer."""


class ProbeResponse(NamedTuple):
    """What one question of ``doctor --probe`` brought; ``headers`` are the reply's, their names in small letters."""

    answer: Response
    headers: Mapping[str, str]


class Reachability(NamedTuple):
    """What is at the API's base URL. ``failure`` is None when anything of HTTP came back; ``kind`` is its
    Content-Type."""

    requested_at: datetime
    failure: TransportError | None = None
    status: int | None = None
    server_time: datetime | None = None
    kind: str = ""


class _Came(NamedTuple):
    """What one request brought."""

    reply: ParsedResponse
    status: int | None = None
    body: bytes = b""
    date: str = ""
    retry_after: str = ""
    headers: Mapping[str, str] = MappingProxyType({})


class Client:
    """Asks one account's windows, from as many threads as ``concurrency``.

    ``api_url`` must be https, or http on this machine; else ``UsageError``. ``jitter`` gives numbers in [0, 1).
    ``requests`` and ``retries`` count what was sent. Certificates are always verified.
    """

    def __init__(
        self,
        api_url: str,
        key: Secret,
        pace: RateLimiter | AccountRateLimiter,
        clock: Clock,
        jitter: Callable[[], float],
        concurrency: int,
        transport: httpx.BaseTransport | None = None,
        timeout: Timeouts = TIMEOUTS,
    ) -> None:
        self._url = _endpoint(api_url)
        self._key = key
        self._pace = pace
        self._clock = clock
        self._jitter = jitter
        self._timeout = timeout
        self._stopped = threading.Event()
        self._deadline = _Deadline(clock, self._stopped.is_set)
        self._counting = threading.Lock()
        self._retried = RateLimitedLogger(log, "retries")
        self.requests = 0
        self.retries = 0
        self._http = _http(transport or _transport(self._url, concurrency, self._deadline), timeout)
        self._http.headers["Content-Type"] = "application/json"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    def stop(self) -> None:
        """Every thread in ``ask`` gives up within ``pace.POLL_INTERVAL`` seconds, also one that waits for the
        server."""
        self._stopped.set()

    def fetch(
        self,
        window: Window,
        settled: frozenset[str] = frozenset(),
        is_sound: Callable[[Response], bool] = lambda _: True,
    ) -> Response:
        """The answer to ``window`` after the retries that ``retry`` grants. Thread-safe.

        An API error whose code is in ``settled`` is final at once; records that ``is_sound`` does not approve of are
        asked for once more. Raises ``Cancelled``, and nothing else: trouble is a reply.
        """
        attempt = refusals = 0
        began = self._clock.monotonic()
        while True:
            if not self._pace.acquire(self._stopped.is_set):
                raise Cancelled
            attempt += 1
            requested_at = self._clock.now()
            self._count(attempt)
            came = self._exchange(window)
            if self._stopped.is_set() and isinstance(came.reply, TransportError | InvalidResponse):
                raise Cancelled  # the server is not to blame for an answer that we broke off
            seconds = self._clock.monotonic() - began
            answer = Response(
                window, requested_at, came.reply, came.status, came.body, attempt, retry.http_date(came.date), seconds
            )
            sound = not isinstance(came.reply, SuccessPayload) or is_sound(answer)
            refusals += isinstance(came.reply, ApiError) or not sound
            wait = self._wait_before(came, attempt, refusals, settled, is_sound=sound)
            if wait is None:
                return answer
            # The first request for a name that cannot exist is meant to fail: nobody has to look.
            is_expected = isinstance(came.reply, ApiError) and window.series in NONEXISTENT_MEMBERS.values()
            (log.debug if is_expected else self._retried.warning)(
                "%s: %s; attempt %d failed, retrying in %.1f s",
                window,
                _said(came.reply),
                attempt,
                wait,
                extra={
                    **window.log_fields,
                    "code": _code(came.reply),
                    "attempt": attempt,
                    "wait_seconds": round(wait, 3),
                },
            )
            if not wait_until(self._clock.monotonic() + wait, self._clock, self._stopped.is_set):
                raise Cancelled

    def fetch_once(self, window: Window) -> ProbeResponse:
        """One request for ``window``, whose start may be any whole second, and what it brought; it is never repeated.

        Raises ``Cancelled``, and nothing else: trouble is a reply.
        """
        if not self._pace.acquire(self._stopped.is_set):
            raise Cancelled
        requested_at = self._clock.now()
        self._count(1)
        came = self._exchange(window, is_question=True)
        return ProbeResponse(
            Response(window, requested_at, came.reply, came.status, came.body, 1, retry.http_date(came.date)),
            came.headers,
        )

    def _count(self, attempt: int) -> None:
        with self._counting:
            self.requests += 1
            self.retries += attempt > 1

    def _wait_before(
        self, came: _Came, attempt: int, refusals: int, settled: frozenset[str], *, is_sound: bool
    ) -> float | None:
        """``retry.retry_delay``; where the server asked for patience, all threads have it."""
        retry_after = retry.retry_after_seconds(came.retry_after, self._clock.now())
        wait = retry.retry_delay(
            came.reply,
            came.status,
            attempt=attempt,
            refusals=refusals,
            jitter=self._jitter(),
            retry_after=retry_after,
            settled=settled,
            is_sound=is_sound,
        )
        if not isinstance(came.reply, SuccessPayload) and (retry_after is not None or came.status == 429):
            self._pace.pause(max(retry_after or 0.0, wait or 0.0))
        return wait

    def _exchange(self, window: Window, *, is_question: bool = False) -> _Came:
        """One request. Foreign errors end here, as values: what they hold (the request, so the key) goes no further."""
        content = (
            protocol.encode_probe(window, self._key) if is_question else protocol.encode_request(window, self._key)
        )
        self._deadline.begin(self._timeout.whole)
        status, body = None, bytearray()
        try:
            with self._http.stream("POST", self._url, content=content) as response:
                status = response.status_code
                for piece in _unpacked(response):
                    body += piece
                    if len(body) > MAX_BODY_BYTES:
                        return _Came(
                            InvalidResponse("too_large", f"more than {MAX_BODY_BYTES} bytes; nothing of it is kept"),
                            status,
                        )
        except (httpx.HTTPError, OSError, UnicodeError) as error:
            code, reason = _trouble(error)
        else:
            content = self._masked(bytes(body))
            location, date, retry_after = (
                response.headers.get(name, "") for name in ("location", "date", "retry-after")
            )
            reply = protocol.parse_response(response.status_code, content, self._masked_text(location))
            headers = {name: self._masked_text(value) for name, value in response.headers.items()}
            return _Came(reply, status, content, date, retry_after, headers)
        reason = protocol.clean(self._masked_text(reason), 200)
        if status is None:
            return _Came(TransportError(code, reason))
        reason = f"HTTP {status}, broken off after {len(body)} bytes: {reason}"
        return _Came(
            InvalidResponse("timeout" if code == "timeout" else "cut_body", reason), status, self._masked(bytes(body))
        )

    def _masked(self, content: bytes) -> bytes:
        """``content`` without the key: a server may echo what it was sent. A number it stood in is then unreadable,
        not wrong."""
        key = self._key.get_secret_value().encode()
        return content if len(key) < _SHORTEST_MASKED else content.replace(key, b"(client key)")

    def _masked_text(self, text: str) -> str:
        return self._masked(text.encode(errors="replace")).decode()


def check_reachable(api_url: str, clock: Clock, timeout: Timeouts = TIMEOUTS) -> Reachability:
    """Asks the API's base URL for its page, in one request that carries no key and no question; the page itself is
    not read.

    Raises UsageError for an ``api_url`` that the key would not be sent to.
    """
    url = _endpoint(api_url)
    deadline = _Deadline(clock, lambda: False)
    deadline.begin(timeout.whole)
    requested_at = clock.now()
    try:
        with _http(_transport(url, 1, deadline), timeout) as http, http.stream("GET", url.join(".")) as response:
            headers = response.headers
            server_time = retry.http_date(headers.get("date", ""))
            return Reachability(requested_at, None, response.status_code, server_time, headers.get("content-type", ""))
    except (httpx.HTTPError, OSError, UnicodeError) as error:
        code, reason = _trouble(error)
        return Reachability(requested_at, TransportError(code, protocol.clean(reason, 200)))


def _unpacked(response: httpx.Response) -> Iterator[bytes]:
    """The body, piece by small piece; unpacked where a server packs though it was asked not to. Raises
    ``httpx.DecodingError``."""
    packing = response.headers.get("content-encoding", "identity").strip().lower()
    if packing == "identity":
        yield from response.iter_raw()
        return
    if packing not in {"gzip", "x-gzip", "deflate"}:
        raise httpx.DecodingError(f"packed as nobody asked for, {packing}")
    unpack = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip and zlib alike
    try:
        for compressed_body in response.iter_raw():
            yield unpack.decompress(compressed_body, _PIECE)
            while unpack.unconsumed_tail:
                yield unpack.decompress(unpack.unconsumed_tail, _PIECE)
            if unpack.unused_data:  # zlib would keep whatever comes, to no end
                raise httpx.DecodingError("more follows the packed body")
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from None
    if not unpack.eof:
        raise httpx.DecodingError("the packed body ends too early")


def _http(transport: httpx.BaseTransport, timeout: Timeouts) -> httpx.Client:
    return httpx.Client(
        transport=transport,
        timeout=httpx.Timeout(connect=timeout.connect, read=timeout.read, write=timeout.write, pool=timeout.pool),
        headers={
            "User-Agent": f"anticaptcha-etl/{version('anticaptcha-etl')}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        },
        follow_redirects=False,  # a redirect would carry the key elsewhere
        cookies=CookieJar(
            DefaultCookiePolicy(allowed_domains=())
        ),  # none is needed, and a strange one could not be sent
        trust_env=False,  # what of the environment counts is decided in _transport
    )


def _code(reply: ParsedResponse) -> str:
    return "" if isinstance(reply, SuccessPayload) else reply.code


def _said(reply: ParsedResponse) -> str:
    if isinstance(reply, SuccessPayload):
        return "records that cannot be used"
    return f"{reply.code}, {reply.description if isinstance(reply, ApiError) else reply.reason}"


# ---------------------------------------------------------------- where to


def _endpoint(api_url: str) -> httpx.URL:
    hint = "Set ANTICAPTCHA_API_URL to an https:// address (http:// only for this machine), or leave it unset."
    try:
        url = httpx.URL(api_url.rstrip("/") + "/getSpendingStats")
    except httpx.InvalidURL:
        raise UsageError("the API's URL cannot be read as an address", hint) from None
    if not url.host or url.userinfo or url.query or url.fragment:
        raise UsageError("the API's URL must be a plain address: a host and perhaps a path", hint)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        raise UsageError(
            f"the API's URL would send the key unprotected, by {url.scheme or 'no scheme'} to {url.host}", hint
        )
    return url


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _proxy(url: httpx.URL) -> httpx.Proxy | None:
    """The proxy that the machine's owner set for every program (HTTPS_PROXY, NO_PROXY), as curl would take it.

    It is how the network is reached there and no setting of ours; what concerns this machine itself never takes it.
    """
    if _is_loopback(url.host) or proxy_bypass(url.host):
        return None
    found = getproxies()
    address = found.get(url.scheme) or found.get("all")
    if not address:
        return None
    try:
        return httpx.Proxy(address if "://" in address else f"http://{address}")
    except (httpx.InvalidURL, ValueError):
        raise UsageError(
            "the proxy of the environment (HTTPS_PROXY) cannot be used", "Write it as http://HOST:PORT."
        ) from None


# ---------------------------------------------------------------- sockets that know when to give up


class _Deadline(threading.local):
    """Each thread's end of its present request. httpx's timeouts start anew with every byte, and know of no stop."""

    def __init__(self, clock: Clock, stopped: Callable[[], bool]) -> None:
        self._ticks = clock.monotonic
        self.stopped = stopped
        self._ends = math.inf

    def begin(self, seconds: float) -> None:
        self._ends = self._ticks() + seconds

    def within(self, timeout: float | None) -> float:
        """The seconds that one step may take. Raises ``httpcore.ReadTimeout`` when none is left."""
        left = self._ends - self._ticks()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for one request is over")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: _Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline.within(timeout)
        while not self._deadline.stopped():
            try:
                return self._inner.read(max_bytes, min(left, POLL_INTERVAL))
            except httpcore.ReadTimeout:
                left -= POLL_INTERVAL
                if left <= 0:
                    raise
        raise httpcore.ReadError("stopped")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.within(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        return _Stream(
            self._inner.start_tls(ssl_context, server_hostname, self._deadline.within(timeout)), self._deadline
        )

    def get_extra_info(self, info: str) -> Any:  # the type of httpcore's own
        return self._inner.get_extra_info(info)


class _Network(httpcore.SyncBackend):
    def __init__(self, deadline: _Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        within = self._deadline.within(timeout)
        return _Stream(super().connect_tcp(host, port, within, local_address, socket_options), self._deadline)


def _transport(url: httpx.URL, concurrency: int, deadline: _Deadline) -> httpx.HTTPTransport:
    """httpx's own transport on our sockets. Certificates named by SSL_CERT_FILE are trusted, for the reason proxies
    are."""
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        transport = httpx.HTTPTransport(limits=limits, proxy=_proxy(url), trust_env=True)
    except OSError as error:  # an SSLError too
        raise UsageError(
            "the certificates to trust, which SSL_CERT_FILE or SSL_CERT_DIR names, cannot be read: "
            f"{error.strerror or error}",
            "name a PEM file of authorities' certificates, or unset the variable",
        ) from error
    # httpx gives its pool no way to be told; the pool itself takes the backend as a public argument. The tests
    # notice a change.
    transport._pool._network_backend = _Network(deadline)  # noqa: SLF001 - see above
    return transport


# ---------------------------------------------------------------- foreign errors


def _trouble(error: Exception) -> tuple[str, str]:
    """One code and one sentence for whatever the network did."""
    causes = tuple(_causes(error))
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return "timeout", f"nothing within the time allowed ({type(error).__name__}: {text})"
    if any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes):
        return "dns", f"the API's host name is not known here ({text})"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "tls", f"no secure connection ({text})"
    for kind, code, sentence in _KINDS:
        if isinstance(error, kind):
            return code, f"{sentence} ({text})"
    return "protocol", f"not HTTP as agreed ({text})"


_KINDS: tuple[tuple[type[Exception], str, str], ...] = (
    (httpx.ConnectError, "connect", "the API could not be reached"),
    (httpx.ProxyError, "proxy", "the proxy of the environment refused"),
    (httpx.NetworkError, "reset", "the connection broke"),
    (httpx.DecodingError, "encoding", "the body cannot be decompressed"),
    (OSError, "reset", "the connection broke"),
)


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
