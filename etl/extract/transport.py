"""The network below the client: one deadline per request, the machine's proxy and certificates, errors as plain words.

httpx's own timeouts start again with each byte, and cannot be interrupted; ours bound a whole request and end at once
when the client is stopped.
"""

import ipaddress
import math
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from http.cookiejar import CookieJar, DefaultCookiePolicy
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from etl.clock import Clock
from etl.errors import UsageError
from etl.extract.rate_limit import POLL_INTERVAL

_CHUNK_BYTES = 2**14
"""Maximum decompressed at once: a few bytes can decompress to gigabytes."""


class Timeouts(NamedTuple):
    """Seconds. ``total`` bounds a request from its first to its last byte; the others start again with each byte."""

    connect: float = 10.0
    read: float = 60.0
    write: float = 10.0
    pool: float = 60.0
    total: float = 120.0


TIMEOUTS = Timeouts()


def endpoint(api_url: str) -> httpx.URL:
    """Return the URL of the API method. Raises UsageError unless it is https, or http on this machine."""
    hint = "set ANTICAPTCHA_API_URL to an https:// address (http:// only on this machine), or unset it"
    try:
        url = httpx.URL(api_url.rstrip("/") + "/getSpendingStats")
    except httpx.InvalidURL:
        raise UsageError("the API's URL is not valid", hint) from None
    if not url.host or url.userinfo or url.query or url.fragment:
        raise UsageError("the API's URL must be a plain address: a host and perhaps a path", hint)
    if url.scheme != "https" and not (url.scheme == "http" and _is_loopback(url.host)):
        scheme = url.scheme or "no scheme"
        raise UsageError(f"the API's URL would send the key unencrypted ({scheme}, host {url.host})", hint)
    return url


def open_http(url: httpx.URL, concurrency: int, deadline: "Deadline", timeouts: Timeouts) -> httpx.Client:
    """Return an HTTP client that keeps to ``deadline``. Raises UsageError for an unusable proxy or certificates."""
    return http_client(_transport(url, concurrency, deadline), timeouts)


def http_client(transport: httpx.BaseTransport, timeouts: Timeouts) -> httpx.Client:
    return httpx.Client(
        transport=transport,
        timeout=httpx.Timeout(connect=timeouts.connect, read=timeouts.read, write=timeouts.write, pool=timeouts.pool),
        headers={
            "User-Agent": f"anticaptcha-etl/{version('anticaptcha-etl')}",
            "Accept": "application/json",
            "Accept-Encoding": "identity",
        },
        follow_redirects=False,  # a redirect would send the key elsewhere
        cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),  # a malformed cookie could not be sent back
        trust_env=False,  # _transport decides what counts
    )


def _transport(url: httpx.URL, concurrency: int, deadline: "Deadline") -> httpx.HTTPTransport:
    """httpx's transport on our sockets. It trusts SSL_CERT_FILE, which, like proxies, is set for the whole machine."""
    limits = httpx.Limits(max_connections=concurrency, max_keepalive_connections=concurrency)
    try:
        transport = httpx.HTTPTransport(limits=limits, proxy=_proxy(url), trust_env=True)
    except OSError as error:  # includes SSLError
        raise UsageError(
            f"cannot read the certificates named by SSL_CERT_FILE or SSL_CERT_DIR: {error.strerror or error}",
            "name a PEM file of trusted authorities, or unset the variable",
        ) from error
    # httpcore's pool takes a network backend as a public argument, but httpx cannot pass it. A test notices a change.
    transport._pool._network_backend = _Network(deadline)  # noqa: SLF001
    return transport


def _proxy(url: httpx.URL) -> httpx.Proxy | None:
    """The proxy of HTTPS_PROXY and NO_PROXY, as curl would use it. Requests to this machine never use one."""
    if _is_loopback(url.host) or proxy_bypass(url.host):
        return None
    proxies = getproxies()
    address = proxies.get(url.scheme) or proxies.get("all")
    if not address:
        return None
    try:
        return httpx.Proxy(address if "://" in address else f"http://{address}")
    except (httpx.InvalidURL, ValueError):
        raise UsageError("the proxy in HTTPS_PROXY is not usable", "write it as http://HOST:PORT") from None


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


# ---------------------------------------------------------------- deadlines


class Deadline(threading.local):
    """The end of each thread's current request."""

    def __init__(self, clock: Clock, is_stopped: Callable[[], bool]) -> None:
        self._monotonic = clock.monotonic
        self.is_stopped = is_stopped
        self._ends_at = math.inf

    def start(self, seconds: float) -> None:
        self._ends_at = self._monotonic() + seconds

    def limit(self, timeout: float | None) -> float:
        """Return the seconds that one step may take. Raises httpcore.ReadTimeout when no time is left."""
        left = self._ends_at - self._monotonic()
        if left <= 0:
            raise httpcore.ReadTimeout("the time for one request is over")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        left = self._deadline.limit(timeout)
        while not self._deadline.is_stopped():
            try:
                return self._inner.read(max_bytes, min(left, POLL_INTERVAL))
            except httpcore.ReadTimeout:
                left -= POLL_INTERVAL
                if left <= 0:
                    raise
        raise httpcore.ReadError("stopped")

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._inner.write(buffer, self._deadline.limit(timeout))

    def close(self) -> None:
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        inner = self._inner.start_tls(ssl_context, server_hostname, self._deadline.limit(timeout))
        return _Stream(inner, self._deadline)

    def get_extra_info(self, info: str) -> Any:  # httpcore's own type
        return self._inner.get_extra_info(info)


class _Network(httpcore.SyncBackend):
    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[httpcore.SOCKET_OPTION] | None = None,
    ) -> httpcore.NetworkStream:
        limit = self._deadline.limit(timeout)
        return _Stream(super().connect_tcp(host, port, limit, local_address, socket_options), self._deadline)


# ---------------------------------------------------------------- bodies and errors


def decompressed(response: httpx.Response) -> Iterator[bytes]:
    """Yield the body in small chunks, also if it is compressed although the request did not allow it.

    Raises httpx.DecodingError.
    """
    encoding = response.headers.get("content-encoding", "identity").strip().lower()
    if encoding == "identity":
        yield from response.iter_raw()
        return
    if encoding not in {"gzip", "x-gzip", "deflate"}:
        raise httpx.DecodingError(f"unexpected Content-Encoding {encoding}")
    decompressor = zlib.decompressobj(wbits=zlib.MAX_WBITS | 32)  # gzip and zlib
    try:
        for chunk in response.iter_raw():
            yield decompressor.decompress(chunk, _CHUNK_BYTES)
            while decompressor.unconsumed_tail:
                yield decompressor.decompress(decompressor.unconsumed_tail, _CHUNK_BYTES)
            if decompressor.unused_data:  # zlib would collect it without end
                raise httpx.DecodingError("data after the end of the compressed body")
    except zlib.error as error:
        raise httpx.DecodingError(str(error)) from None
    if not decompressor.eof:
        raise httpx.DecodingError("the compressed body is incomplete")


_KINDS: tuple[tuple[type[Exception], str, str], ...] = (
    (httpx.ConnectError, "connect", "cannot connect to the API"),
    (httpx.ProxyError, "proxy", "the proxy refused"),
    (httpx.NetworkError, "reset", "connection lost"),
    (httpx.DecodingError, "encoding", "cannot decompress the body"),
    (OSError, "reset", "connection lost"),
)

NETWORK_ERRORS = (httpx.HTTPError, OSError, UnicodeError)
"""Everything a request raises when the network fails."""


def describe_error(error: Exception) -> tuple[str, str]:
    """Return a code and a sentence for a network error."""
    causes = tuple(_causes(error))
    text = str(error) or type(error).__name__
    if isinstance(error, httpx.TimeoutException):
        return "timeout", f"no response in time ({type(error).__name__}: {text})"
    if any(isinstance(cause, socket.gaierror | UnicodeError) for cause in causes):
        return "dns", f"unknown host name ({text})"
    if any(isinstance(cause, ssl.SSLError) for cause in causes):
        return "tls", f"no secure connection ({text})"
    for kind, code, sentence in _KINDS:
        if isinstance(error, kind):
            return code, f"{sentence} ({text})"
    return "protocol", f"invalid HTTP ({text})"


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
