"""HTTP transport: one deadline per request, the machine's proxy and certificates, and descriptions of errors.

httpx's own timeouts start again with each byte, and cannot be interrupted; ours limit the whole request and end
at once when the client is stopped.
"""

import ipaddress
import math
import socket
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, contextmanager, suppress
from importlib.metadata import version
from typing import Any, NamedTuple
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx

from etl.clock import Clock
from etl.errors import UsageError
from etl.extract.rate_limit import POLL_INTERVAL

_KEEPALIVE_SECONDS = 5.0
"""httpx's default. A connection that was idle for longer is replaced: its server may close it at any moment."""

_CHUNK_BYTES = 2**14
"""Maximum decompressed at once: a few bytes can decompress to gigabytes."""


class Timeouts(NamedTuple):
    """Seconds. ``total`` bounds a request from its first to its last byte; the others start again with each byte."""

    connect: float = 10.0
    read: float = 60.0
    write: float = 10.0
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


class Http:
    """Sends requests to the host of ``url``, each with one deadline. Follows no redirects and keeps no cookies.

    Raises UsageError for an unusable proxy or certificates.
    """

    def __init__(self, url: httpx.URL, clock: Clock, is_stopped: Callable[[], bool], timeouts: Timeouts) -> None:
        self._deadline = Deadline(clock, is_stopped)
        self._total_seconds = timeouts.total
        self._extensions = {"timeout": timeouts._asdict()}
        self._headers = httpx.Headers(
            {
                "User-Agent": f"anticaptcha-etl/{version('anticaptcha-etl')}",
                "Accept": "application/json",
                "Accept-Encoding": "identity",
                "Content-Type": "application/json",
            }
        )
        self._transport = _transport(url, self._deadline)

    def close(self) -> None:
        self._transport.close()

    def send(self, method: str, url: httpx.URL, content: bytes | None = None) -> closing[httpx.Response]:
        """Send a request; its response's body can be read until the end of the ``with`` block."""
        self._deadline.start(self._total_seconds)
        request = httpx.Request(method, url, headers=self._headers, content=content, extensions=self._extensions)
        return closing(self._transport.handle_request(request))


def _transport(url: httpx.URL, deadline: "Deadline") -> httpx.BaseTransport:
    certificates, proxy = _certificates(url), _proxy(url)
    if proxy is None:
        return _ThreadConnections(certificates, _Network(deadline))
    transport = httpx.HTTPTransport(certificates or True, limits=httpx.Limits(), proxy=proxy)  # no limit
    # httpcore's pool takes a network backend as an argument, but httpx cannot pass it. A test fails if that changes.
    transport._pool._network_backend = _Network(deadline)  # noqa: SLF001
    return transport


def _certificates(url: httpx.URL) -> ssl.SSLContext | None:
    """The authorities of SSL_CERT_FILE or SSL_CERT_DIR, otherwise httpx's. Loading them takes tens of milliseconds."""
    if url.scheme != "https":
        return None
    try:
        return httpx.create_ssl_context(trust_env=True)
    except OSError as error:  # includes SSLError
        raise UsageError(
            f"cannot read the certificates named by SSL_CERT_FILE or SSL_CERT_DIR: {error.strerror or error}",
            "name a PEM file of trusted authorities, or unset the variable",
        ) from error


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
            raise httpcore.ReadTimeout("request exceeded its time limit")
        return left if timeout is None else min(timeout, left)


class _Stream(httpcore.NetworkStream):
    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline
        self._written = b""
        self._write_timeout: float | None = None

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        self._send_written()
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
        self._written += buffer
        self._write_timeout = timeout

    def _send_written(self) -> None:
        """Send head and body of a request in one packet. The server may have replied and closed before it has both."""
        if self._written:
            with suppress(httpcore.WriteError):
                self._inner.write(self._written, self._deadline.limit(self._write_timeout))
            self._written = b""

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


# ---------------------------------------------------------------- connections


class _ThreadConnections(httpx.BaseTransport):
    """One connection for each thread, kept open between requests: a pool costs the threads a lock and a search."""

    def __init__(self, certificates: ssl.SSLContext | None, network: httpcore.NetworkBackend) -> None:
        self._certificates = certificates
        self._network = network
        self._by_thread: dict[int, httpcore.HTTPConnection] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        url = request.url
        core_url = httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path)
        core_request = httpcore.Request(
            request.method, core_url, headers=request.headers.raw, content=request.stream, extensions=request.extensions
        )
        with _httpx_errors():
            response = self._connection(core_url.origin).handle_request(core_request)
        return httpx.Response(
            response.status, headers=response.headers, stream=_Body(response), extensions=response.extensions
        )

    def _connection(self, origin: httpcore.Origin) -> httpcore.HTTPConnection:
        """This thread's connection: a new one if the server has closed the old one, or is about to."""
        thread = threading.get_ident()
        connection = self._by_thread.get(thread)
        if connection is None or connection.is_closed() or connection.has_expired():
            if connection:
                connection.close()
            connection = self._by_thread[thread] = httpcore.HTTPConnection(
                origin, self._certificates, keepalive_expiry=_KEEPALIVE_SECONDS, network_backend=self._network
            )
        return connection

    def close(self) -> None:
        for connection in list(self._by_thread.values()):
            connection.close()


class _Body(httpx.SyncByteStream):
    def __init__(self, response: httpcore.Response) -> None:
        self._response = response

    def __iter__(self) -> Iterator[bytes]:
        with _httpx_errors():
            yield from self._response.iter_stream()

    def close(self) -> None:
        self._response.close()


@contextmanager
def _httpx_errors() -> Iterator[None]:
    """Raise httpcore's errors as httpx's, which have the same names."""
    try:
        yield
    except (httpcore.TimeoutException, httpcore.NetworkError, httpcore.ProtocolError) as error:
        raise getattr(httpx, type(error).__name__)(str(error)) from error


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
            if decompressor.unused_data:  # zlib would buffer it without limit
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
