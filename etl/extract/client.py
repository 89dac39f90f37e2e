"""The only module that sends HTTP requests: one window in, one response out."""

import logging
import threading
from collections.abc import Callable, Mapping
from contextlib import closing
from datetime import datetime
from types import MappingProxyType
from typing import NamedTuple, Self

import httpx

from etl.clock import Clock
from etl.extract import protocol, retry, transport
from etl.extract.planner.members import NONEXISTENT_MEMBERS
from etl.extract.rate_limit import AccountRateLimiter, RateLimiter, wait_until
from etl.extract.transport import NETWORK_ERRORS, TIMEOUTS, Timeouts
from etl.logging_setup import RateLimitedLogger
from etl.models import Window
from etl.responses import ApiError, Balance, InvalidResponse, ParsedResponse, Response, SuccessPayload, TransportError
from etl.secret import Secret

log = logging.getLogger(__name__)

MAX_BODY_BYTES = 2**20
"""Longer bodies are not read to their end, and nothing of them is stored. A day of records is about 2 kB."""

_MIN_MASKED_LENGTH = 8
"""Shorter keys are not masked: they could match ordinary text."""


Encoder = Callable[[Window, Secret], bytes]


class Cancelled(Exception):  # noqa: N818 - not an error, but what the caller asked for
    """``stop`` was called before the window had a response."""


class ProbeResponse(NamedTuple):
    """The response to one request of ``doctor --probe``, and its headers by lower-case name."""

    response: Response
    headers: Mapping[str, str]


class Reachability(NamedTuple):
    """What is at the API's base URL. ``failure`` is None if the server replied; ``kind`` is its Content-Type."""

    requested_at: datetime
    failure: TransportError | None = None
    status: int | None = None
    server_time: datetime | None = None
    kind: str = ""


class _Exchange(NamedTuple):
    """What one request brought, without the key. ``headers``: by lower-case name, none of an incomplete response."""

    reply: ParsedResponse
    status: int | None = None
    body: bytes = b""
    headers: Mapping[str, str] = MappingProxyType({})


class Client:
    """Requests an account's windows from any number of threads.

    ``api_url`` must be https, or http on this machine, otherwise UsageError is raised. ``jitter`` returns numbers in
    [0, 1). ``requests`` and ``retries`` count what was sent. Certificates are always verified.
    """

    def __init__(
        self,
        api_url: str,
        key: Secret,
        rate_limiter: RateLimiter | AccountRateLimiter,
        clock: Clock,
        jitter: Callable[[], float],
        timeouts: Timeouts = TIMEOUTS,
    ) -> None:
        self._url = transport.endpoint(api_url)
        self._key = key
        self._rate_limiter = rate_limiter
        self._clock = clock
        self._jitter = jitter
        self._stopped = threading.Event()
        self._counting = threading.Lock()
        self._retry_log = RateLimitedLogger(log, "retries")
        self.requests = 0
        self.retries = 0
        self._http = transport.Http(self._url, clock, self._stopped.is_set, timeouts)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._http.close()

    def stop(self) -> None:
        """Make all threads in ``fetch`` raise Cancelled within POLL_INTERVAL seconds, even while they wait."""
        self._stopped.set()

    def fetch(
        self,
        window: Window,
        final_codes: frozenset[str] = frozenset(),
        is_usable: Callable[[Response], bool] = lambda _: True,
    ) -> Response:
        """Return the response to ``window`` after retries. Thread-safe.

        API errors with a code in ``final_codes`` are not retried; records that are not ``is_usable`` are requested once
        more. Raises Cancelled and nothing else: network errors are responses.
        """
        attempt = rejected_attempts = 0
        started = self._clock.monotonic()
        while True:
            attempt += 1
            response, headers = self._request(window, protocol.encode_request, attempt, started)
            if self._stopped.is_set() and isinstance(response.reply, TransportError | InvalidResponse):
                raise Cancelled  # the connection failed because we stopped
            usable = not isinstance(response.reply, SuccessPayload) or is_usable(response)
            rejected_attempts += isinstance(response.reply, ApiError) or not usable
            wait = self._retry_wait(response, headers, rejected_attempts, final_codes, usable)
            if wait is None:
                return response
            self._log_retry(response, wait)
            if not wait_until(self._clock.monotonic() + wait, self._clock, self._stopped.is_set):
                raise Cancelled

    def fetch_once(self, window: Window) -> ProbeResponse:
        """Send one request without retries; the window may start at any second.

        Raises Cancelled and nothing else: network errors are responses.
        """
        return ProbeResponse(*self._request(window, protocol.encode_probe, 1, self._clock.monotonic()))

    def fetch_balance(self) -> tuple[datetime, Balance | ParsedResponse]:
        """Request the balance once, without retries: the vendor asks for at most one such request in 30 seconds.

        Returns when the request began, and what came back. Raises Cancelled and nothing else.
        """
        if not self._rate_limiter.acquire(self._stopped.is_set):
            raise Cancelled
        requested_at = self._clock.now()
        with self._counting:
            self.requests += 1
        exchange = self._exchange(protocol.encode_balance_request(self._key), self._url.join("getBalance"))
        if exchange.status is None or (not exchange.body and isinstance(exchange.reply, InvalidResponse)):
            return requested_at, exchange.reply
        return requested_at, protocol.parse_balance(exchange.status, exchange.body)

    def _request(
        self, window: Window, encode: Encoder, attempt: int, started: float
    ) -> tuple[Response, Mapping[str, str]]:
        """Wait for the rate limiter and send one request. Raises Cancelled."""
        if not self._rate_limiter.acquire(self._stopped.is_set):
            raise Cancelled
        requested_at = self._clock.now()
        with self._counting:
            self.requests += 1
            self.retries += attempt > 1
        reply, status, body, headers = self._exchange(encode(window, self._key))
        server_time = retry.http_date(headers.get("date", ""))
        seconds = self._clock.monotonic() - started
        return Response(window, requested_at, reply, status, body, attempt, server_time, seconds), headers

    def _exchange(self, content: bytes, url: httpx.URL | None = None) -> _Exchange:
        """Send a request and read its response. httpx's errors contain the key and do not leave this method."""
        status, body = None, bytearray()
        try:
            with self._http.send("POST", url or self._url, content) as stream:
                status = stream.status_code
                for chunk in transport.decompressed(stream):
                    body += chunk
                    if len(body) > MAX_BODY_BYTES:
                        too_large = InvalidResponse("too_large", f"more than {MAX_BODY_BYTES} bytes; none are stored")
                        return _Exchange(too_large, status)
        except NETWORK_ERRORS as error:
            code, reason = transport.describe_error(error)
            reason = protocol.clean(self._mask_text(reason), 200)
            if status is None:
                return _Exchange(TransportError(code, reason))
            code = "timeout" if code == "timeout" else "cut_body"
            truncated = InvalidResponse(code, f"HTTP {status}, ended after {len(body)} bytes: {reason}")
            return _Exchange(truncated, status, self._mask(bytes(body)))
        headers = {name: self._mask_text(value) for name, value in stream.headers.items()}
        masked = self._mask(bytes(body))
        return _Exchange(protocol.parse_response(status, masked, headers.get("location", "")), status, masked, headers)

    def _retry_wait(
        self,
        response: Response,
        headers: Mapping[str, str],
        rejected_attempts: int,
        final_codes: frozenset[str],
        usable: bool,
    ) -> float | None:
        """Seconds until the retry, or None. If the server asks to wait, all threads wait."""
        retry_after = retry.retry_after_seconds(headers.get("retry-after", ""), self._clock.now())
        wait = retry.retry_delay(
            response.reply,
            response.status,
            attempt=response.requests,
            rejected_attempts=rejected_attempts,
            jitter=self._jitter(),
            retry_after=retry_after,
            final_codes=final_codes,
            is_usable=usable,
        )
        if not isinstance(response.reply, SuccessPayload) and (retry_after is not None or response.status == 429):
            self._rate_limiter.pause(max(retry_after or 0.0, wait or 0.0))
        return wait

    def _log_retry(self, response: Response, wait: float) -> None:
        window, reply, attempt = response.window, response.reply, response.requests
        code, problem = "", "unusable records"
        if not isinstance(reply, SuccessPayload):
            code, problem = reply.code, reply.description if isinstance(reply, ApiError) else reply.reason
            problem = f"{code}, {problem}"
        fields = {**window.log_fields, "code": code, "attempt": attempt, "wait_seconds": round(wait, 3)}
        # The request for a name that cannot exist is meant to fail.
        is_expected = isinstance(reply, ApiError) and window.series in NONEXISTENT_MEMBERS.values()
        write = log.debug if is_expected else self._retry_log.warning
        write("%s: %s; retry %d in %.1f s", window, problem, attempt, wait, extra=fields)

    def _mask(self, content: bytes) -> bytes:
        """Replace the key, since a server may echo it. A number that contains it fails to parse instead of changing."""
        key = self._key.get_secret_value().encode()
        return content if len(key) < _MIN_MASKED_LENGTH else content.replace(key, b"(client key)")

    def _mask_text(self, text: str) -> str:
        return self._mask(text.encode(errors="replace")).decode()


def check_reachable(api_url: str, clock: Clock, timeouts: Timeouts = TIMEOUTS) -> Reachability:
    """Request the API's base URL once, without the key. The page itself is not read.

    Raises UsageError for a URL that is not allowed.
    """
    url = transport.endpoint(api_url)
    requested_at = clock.now()
    try:
        with (
            closing(transport.Http(url, clock, lambda: False, timeouts)) as http,
            http.send("GET", url.join(".")) as response,
        ):
            headers = response.headers
            server_time = retry.http_date(headers.get("date", ""))
            return Reachability(requested_at, None, response.status_code, server_time, headers.get("content-type", ""))
    except NETWORK_ERRORS as error:
        code, reason = transport.describe_error(error)
        return Reachability(requested_at, TransportError(code, protocol.clean(reason, 200)))
