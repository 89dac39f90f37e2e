"""The HTTP client against a local server whose every byte is scripted."""

import gzip
import json
import logging
import socket
import ssl
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, date, datetime
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.errors import UsageError
from etl.extract.client import MAX_BODY_BYTES, Cancelled, Client
from etl.extract.rate_limit import RateLimiter
from etl.extract.transport import Timeouts, _ThreadConnections
from etl.models import TOTAL, Window
from etl.responses import (
    ApiError,
    InvalidResponse,
    ParsedResponse,
    RegularHours,
    Response,
    SuccessPayload,
    TransportError,
)
from etl.secret import Secret
from tests.integration.scripted_server import (
    Script,
    Server,
    drip,
    flood,
    needs_openssl,
    reset,
    respond,
    send,
    serving,
    serving_tls,
    stay_silent,
)  # fmt: skip

KEY = Secret("0123456789abcdef0123456789abcdef")
WINDOW = Window.whole_day("default", TOTAL, date(2026, 1, 1))
SUCCESS = b'{"errorId":0,"data":[{"dateFrom":1767225600,"dateTill":1767229199,"volume":5,"money":7.495948}]}'
PAYLOAD = SuccessPayload(regular=RegularHours(1767225600, (5,), (7_495_948_000,)))
API_ERROR = b'{"errorId":2,"errorCode":"ERROR_X","errorDescription":"no"}'
SHORT_TIMEOUTS = Timeouts(connect=0.3, read=0.3, write=0.3, total=0.6)

# ---------------------------------------------------------------- the client


@pytest.fixture(autouse=True)
def without_proxy_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class FakeTime:
    """A clock whose sleeps take no time: they are counted and advance the monotonic time."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.clock = Clock(monotonic=lambda: time.monotonic() + self.slept, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def client(url: str, clock: Clock | None = None, timeout: Timeouts = SHORT_TIMEOUTS, key: Secret = KEY) -> Client:
    clock = clock or FakeTime().clock
    return Client(url, key, RateLimiter(0, clock), clock, lambda: 0.0, timeout)


def fetch(url: str, final_error_codes: frozenset[str] = frozenset()) -> tuple[Response, float]:
    """Return the response and the seconds that the client would have waited between requests."""
    time_source = FakeTime()
    with client(url, time_source.clock) as http_client:
        response = http_client.fetch(WINDOW, final_error_codes)
        assert (http_client.requests, http_client.retries) == (response.requests, response.requests - 1)
    return response, round(time_source.slept, 3)


def code(reply: ParsedResponse) -> str:
    assert not isinstance(reply, SuccessPayload)
    return reply.code


# ---------------------------------------------------------------- one window in, one response out


def test_a_window_is_sent_as_json_and_its_response_is_returned_unchanged() -> None:
    with serving(respond(SUCCESS, "200 OK", "Date: Fri, 02 Jan 2026 03:04:05 GMT")) as server:
        before = datetime.now(UTC)
        response, slept = fetch(server.url)
    assert before <= response.requested_at <= datetime.now(UTC)
    assert response == Response(
        WINDOW, response.requested_at, PAYLOAD, 200, SUCCESS, 1, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    assert slept == 0
    head, body = server.requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /getSpendingStats HTTP/1.1\r\n")
    assert b"\r\nUser-Agent: anticaptcha-etl/" in head
    assert b"\r\nContent-Type: application/json" in head
    assert json.loads(body) == {"clientKey": KEY.get_secret_value(), "date": 1767225600}


def test_a_compressed_response_is_decompressed() -> None:
    with serving(respond(gzip.compress(SUCCESS), "200 OK", "Content-Encoding: gzip")) as server:
        assert fetch(server.url)[0].body == SUCCESS


def test_an_api_error_is_retried_once_after_a_delay() -> None:
    with serving(respond(API_ERROR)) as server:
        response, slept = fetch(server.url)
    assert (code(response.reply), response.requests, slept) == ("ERROR_X", 2, 5.0)


def test_unusable_records_are_requested_once_more() -> None:
    unusable = SUCCESS.replace(b"7.495948", b"-1")
    with serving(respond(unusable), respond(SUCCESS)) as server, client(server.url) as http_client:
        assert http_client.fetch(WINDOW, is_usable=lambda response: response.body == SUCCESS).reply == PAYLOAD
    with serving(respond(unusable)) as server, client(server.url) as http_client:
        response = http_client.fetch(WINDOW, is_usable=lambda response: response.body == SUCCESS)
    assert (response.body, response.requests, len(server.requests)) == (unusable, 2, 2)


def test_a_final_error_is_not_retried() -> None:
    with serving(respond(API_ERROR)) as server:
        response, slept = fetch(server.url, frozenset({"ERROR_X"}))
    assert (code(response.reply), response.requests, slept) == ("ERROR_X", 1, 0)


def test_a_wrong_key_costs_one_request() -> None:
    with serving(respond(API_ERROR.replace(b"ERROR_X", b"ERROR_KEY_DOES_NOT_EXIST"))) as server:
        assert fetch(server.url)[0].requests == 1
    assert len(server.requests) == 1


def test_temporary_failures_are_retried_and_the_last_response_is_returned() -> None:
    with serving(respond(b"<html>", "502 Bad Gateway"), respond(b""), reset, respond(SUCCESS)) as server:
        response, slept = fetch(server.url)
    assert (response.reply, response.requests, slept) == (PAYLOAD, 4, 1.0 + 2.0 + 4.0)


def test_a_window_gets_at_most_six_requests() -> None:
    with serving(respond(b"", "503 Service Unavailable")) as server:
        response, _ = fetch(server.url)
    assert (code(response.reply), response.status, response.requests, len(server.requests)) == ("http_503", 503, 6, 6)


def test_retry_after_pauses_all_threads() -> None:
    time_source = FakeTime()
    limiter = RateLimiter(0, time_source.clock)
    with (
        serving(respond(b"", "429 Too Many Requests", "Retry-After: 42"), respond(SUCCESS)) as server,
        Client(server.url, KEY, limiter, time_source.clock, lambda: 0.0) as http_client,
    ):
        assert http_client.fetch(WINDOW).requests == 2
    assert time_source.slept == pytest.approx(42, abs=0.01)
    limiter.pause(0)
    with (
        serving(respond(b"", "403 Forbidden", "Retry-After: 30")) as server,
        Client(server.url, KEY, limiter, time_source.clock, lambda: 0.0) as http_client,
    ):
        assert http_client.fetch(WINDOW).requests == 1
        assert limiter.acquire(lambda: False)
    assert time_source.slept == pytest.approx(72, abs=0.02)


# ---------------------------------------------------------------- kept connections


KEEP_ALIVE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(SUCCESS) + SUCCESS


def respond_to_all(peer: socket.socket) -> None:
    """Respond to the request that was read, and to all others on the same connection."""
    while True:
        peer.sendall(KEEP_ALIVE)
        request = b""
        while not request.endswith(b"}"):
            piece = peer.recv(65536)
            if not piece:
                return
            request += piece


def test_each_thread_keeps_its_connection_open_between_requests() -> None:
    both_started = threading.Barrier(2)

    def fetch_three(http_client: Client) -> list[ParsedResponse]:
        both_started.wait(timeout=10)
        return [http_client.fetch(WINDOW).reply for _ in range(3)]

    with (
        serving(respond_to_all) as server,
        client(server.url, timeout=Timeouts()) as http_client,
        ThreadPoolExecutor(2) as pool,
    ):
        replies = [future.result() for future in [pool.submit(fetch_three, http_client) for _ in range(2)]]
        assert (replies, http_client.requests, http_client.retries) == ([[PAYLOAD] * 3] * 2, 6, 0)
    assert len(server.requests) == 2  # one for each connection


def test_a_connection_that_the_server_closed_while_idle_is_replaced_without_a_retry() -> None:
    is_closed = threading.Event()

    def close_after_response(server: Server, peer: socket.socket) -> None:
        server.handle(peer)
        is_closed.set()

    with serving(send(KEEP_ALIVE)) as server, client(server.url) as http_client:
        server.on_connect = close_after_response
        for number in range(1, 4):
            assert http_client.fetch(WINDOW).reply == PAYLOAD
            assert is_closed.wait(timeout=10)
            is_closed.clear()
            assert (len(server.requests), http_client.requests, http_client.retries) == (number, number, 0)


def test_a_429_without_retry_after_pauses_all_threads_too() -> None:
    paused: list[float] = []

    class Limiter(RateLimiter):
        def pause(self, seconds: float) -> None:
            paused.append(seconds)

    time_source = FakeTime()
    for status, header, pauses in (
        ("429 Too Many Requests", "X: y", [pytest.approx(1)]),
        ("428 Precondition Required", "X: y", []),
        ("503 Service Unavailable", "X: y", []),
        ("403 Forbidden", "Retry-After: 0", [0]),
    ):
        paused.clear()
        with (
            serving(respond(b"", status, header), respond(SUCCESS)) as server,
            Client(server.url, KEY, Limiter(0, time_source.clock), time_source.clock, lambda: 0.0) as http_client,
        ):
            http_client.fetch(WINDOW)
        assert paused == pauses, status


def test_one_request_without_retries_counts_as_one_request() -> None:
    with serving(respond(SUCCESS)) as server, client(server.url) as http_client:
        assert http_client.fetch_once(WINDOW).response.requests == 1
        assert (http_client.requests, http_client.retries) == (1, 0)


def test_a_connection_is_not_used_again_after_an_incomplete_response() -> None:
    with serving(flood, send(KEEP_ALIVE)) as server, client(server.url) as http_client:
        assert code(http_client.fetch_once(WINDOW).response.reply) == "too_large"
        assert http_client.fetch_once(WINDOW).response.reply == PAYLOAD


# ---------------------------------------------------------------- what the network does


@pytest.mark.parametrize(
    ("script", "kind", "expected"),
    [
        (reset, TransportError, "reset"),
        (stay_silent, TransportError, "timeout"),
        (send(b"220 mail.example ESMTP\r\n\r\n"), TransportError, "protocol"),
        (send(b""), TransportError, "protocol"),
        (drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"), TransportError, "timeout"),
        (drip(b"HTTP/1.1 200 OK\r\n\r\n", b" "), InvalidResponse, "timeout"),
        (drip(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"), InvalidResponse, "timeout"),
        (send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + SUCCESS), InvalidResponse, "cut_body"),
        (send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), InvalidResponse, "cut_body"),
        (respond(SUCCESS, "200 OK", "Content-Encoding: gzip"), InvalidResponse, "cut_body"),
        (flood, InvalidResponse, "too_large"),
        (
            respond(gzip.compress(b" " * (MAX_BODY_BYTES + 1)), "200 OK", "Content-Encoding: gzip"),
            InvalidResponse,
            "too_large",
        ),
        (respond(gzip.compress(SUCCESS)[:-9], "200 OK", "Content-Encoding: gzip"), InvalidResponse, "cut_body"),
        (respond(gzip.compress(SUCCESS) + b" ", "200 OK", "Content-Encoding: gzip"), InvalidResponse, "cut_body"),
        (respond(SUCCESS, "200 OK", "Content-Encoding: br"), InvalidResponse, "cut_body"),
        (respond(gzip.compress(SUCCESS), "200 OK", "Content-Encoding: gzip, gzip"), InvalidResponse, "cut_body"),
    ],
)
def test_each_network_failure_ends_in_time_and_has_an_error_code(
    script: Script, kind: type[ParsedResponse], expected: str
) -> None:
    with serving(script, respond(b"", "404 Not Found")) as server:
        time_source = FakeTime()
        with client(server.url, time_source.clock) as http_client:
            response = http_client.fetch_once(WINDOW).response
    assert isinstance(response.reply, kind)
    assert code(response.reply) == expected
    assert (response.status == 200) is (kind is InvalidResponse)


def test_a_truncated_body_is_an_error_and_is_stored() -> None:
    truncated = b"HTTP/1.1 404 Not Found\r\nContent-Length: 500\r\n\r\n" + SUCCESS
    with serving(send(truncated)) as server:
        response, _ = fetch(server.url)
    assert (code(response.reply), response.body, response.status) == ("cut_body", SUCCESS, 404)


def test_a_refused_connection_has_the_code_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    response, _ = fetch(f"http://127.0.0.1:{port}")
    assert (code(response.reply), response.status, response.requests, response.server_time) == (
        "connect",
        None,
        6,
        None,
    )


def test_a_server_without_tls_has_the_code_tls() -> None:
    def speak_plainly(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            hello.append(peer.recv(65536))
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    hello: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak_plainly, args=(listener,))
        thread.start()
        with client(f"https://127.0.0.1:{listener.getsockname()[1]}") as http_client:
            reply = http_client.fetch_once(WINDOW).response.reply
        thread.join()
    assert code(reply) == "tls"
    assert KEY.get_secret_value().encode() not in hello[0]


@needs_openssl
def test_a_server_with_an_untrusted_certificate_gets_no_key(tmp_path: Path) -> None:
    with serving_tls(tmp_path, respond(SUCCESS)) as server, client(server.url) as http_client:
        assert code(http_client.fetch_once(WINDOW).response.reply) == "tls"
    assert server.requests == []


@needs_openssl
def test_certificates_in_ssl_cert_file_are_trusted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with serving_tls(tmp_path, respond(SUCCESS)) as server:
        assert fetch(server.url)[0].reply == PAYLOAD


@needs_openssl
@pytest.mark.parametrize(
    "variable",
    [
        "PYTHONHTTPSVERIFY=0",
        "SSL_NO_VERIFY=1",
        "SSL_VERIFY=false",
        "NODE_TLS_REJECT_UNAUTHORIZED=0",
        "GIT_SSL_NO_VERIFY=1",
        "HTTPX_VERIFY=0",
        "HTTPX_SSL_VERIFY=false",
        "REQUESTS_CA_BUNDLE={cert}",
        "CURL_CA_BUNDLE={cert}",
        "SSL_CERT_FILE=",
        "ANTICAPTCHA_VERIFY=false",
        "ANTICAPTCHA_TLS_VERIFY=0",
        "ANTICAPTCHA_INSECURE=1",
    ],
)
def test_no_environment_variable_turns_certificate_checks_off(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value.format(cert=tmp_path / "cert.pem"))
    with serving_tls(tmp_path, respond(SUCCESS)) as server, client(server.url) as http_client:
        assert code(http_client.fetch_once(WINDOW).response.reply) == "tls"
    assert server.requests == []


@needs_openssl
def test_a_trusted_certificate_for_another_host_gets_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with (
        serving_tls(tmp_path, respond(SUCCESS)) as server,
        client(server.url.replace("localhost", "127.0.0.1")) as http_client,
    ):
        assert code(http_client.fetch_once(WINDOW).response.reply) == "tls"
    assert server.requests == []


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_are_always_checked(tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty value or a folder in the variable means that no certificate is trusted, not that all are."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(name, "" if name == "SSL_CERT_FILE" else str(tmp_path))
    with client("https://localhost:1") as http_client:
        transport = http_client._http._transport
        assert isinstance(transport, _ThreadConnections)
        context = transport._certificates
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_an_unreadable_certificate_file_is_an_error_that_names_it(
    tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "authorities.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        client("https://localhost:1")


def test_certificates_are_not_read_for_plain_http(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", "/missing")
    with serving(respond(SUCCESS)) as server:
        assert fetch(server.url)[0].reply == PAYLOAD


def test_an_impossible_host_name_has_the_code_dns() -> None:
    with client("https://" + "a" * 64 + ".invalid") as http_client:
        assert code(http_client.fetch_once(WINDOW).response.reply) == "dns"


def test_a_redirect_is_not_followed() -> None:
    with (
        serving(respond(SUCCESS)) as elsewhere,
        serving(respond(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}x?y=z")) as server,
    ):
        response, _ = fetch(server.url)
    assert response.reply == InvalidResponse("redirect", "HTTP 307 points to 127.0.0.1; redirects are not followed")
    assert (len(server.requests), len(elsewhere.requests)) == (1, 0)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_requests_to_localhost_never_use_a_proxy(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(respond(SUCCESS)) as server, serving(respond(b"")) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        assert fetch(server.url)[0].reply == PAYLOAD


def test_other_hosts_are_reached_through_the_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    tunnels: list[bytes] = []

    def refuse(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            tunnels.append(peer.recv(65536))
            peer.sendall(b"HTTP/1.1 407 Proxy Authentication Required\r\n\r\n")

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=refuse, args=(listener,))
        thread.start()
        monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{listener.getsockname()[1]}")
        with client("https://api.example.invalid") as http_client:
            reply = http_client.fetch_once(WINDOW).response.reply
        thread.join()
    assert code(reply) == "proxy"
    assert tunnels[0].startswith(b"CONNECT api.example.invalid:443 HTTP/1.1\r\n")
    assert KEY.get_secret_value().encode() not in tunnels[0]


def test_the_deadline_also_counts_behind_a_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    def reply_slowly(_: Server, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            peer.recv(65536)
            drip(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x")(peer)

    with serving(stay_silent) as proxy:
        proxy.on_connect = reply_slowly
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with client("https://api.example.invalid") as http_client:
            assert code(http_client.fetch_once(WINDOW).response.reply) == "timeout"


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize(
    "script",
    [
        respond(
            b'{"errorId":1,"errorCode":"ERROR_'
            + KEY.get_secret_value().encode()
            + b'","errorDescription":"'
            + KEY.get_secret_value().encode()
            + b'"}'
        ),
        respond(b"<html>you sent " + KEY.get_secret_value().encode()),
        respond(b"", "302 Found", f"Location: https://{KEY.get_secret_value()}/"),
        send(KEY.get_secret_value().encode() + b"\r\n\r\n"),
        send(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + KEY.get_secret_value().encode()),
        reset,
    ],
)
def test_a_key_in_the_response_is_neither_stored_nor_logged(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(script) as server:
        response, _ = fetch(server.url)
    assert KEY.get_secret_value().encode() in server.requests[0]
    assert KEY.get_secret_value() not in repr(response) + repr(response.body) + caplog.text


@pytest.mark.parametrize(("key", "body"), [("12345678", b"<a>(client key)<b>"), ("1234567", b"<a>1234567<b>")])
def test_only_keys_of_eight_characters_or_more_are_masked(key: str, body: bytes) -> None:
    with (
        serving(respond(b"<a>" + key.encode() + b"<b>", "404 Not Found")) as server,
        client(server.url, key=Secret(key)) as http_client,
    ):
        assert http_client.fetch(WINDOW).body == body


def test_a_retry_is_logged_with_its_window_cause_and_wait(caplog: pytest.LogCaptureFixture) -> None:
    with serving(respond(b"oops", "502 Bad Gateway"), respond(SUCCESS)) as server:
        fetch(server.url)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "etl.extract.client"]
    assert line == ("default 2026-01-01 total: http_502, HTTP 502 with 4 bytes, 'oops'; retry 1 in 1.0 s")


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize(
    "script",
    [
        stay_silent,
        respond(b"", "503 Service Unavailable", "Retry-After: 300"),
        drip(b"HTTP/1.1 404 Not Found\r\n\r\n", b" "),
    ],
)
def test_stop_ends_all_waiting_threads_immediately(script: Script) -> None:
    with (
        serving(script) as server,
        client(server.url, Clock(), Timeouts()) as http_client,
        ThreadPoolExecutor(4) as pool,
    ):
        futures = [pool.submit(http_client.fetch, WINDOW) for _ in range(4)]
        while not server.requests:
            time.sleep(0.01)  # noqa: TID251 - waits for the server, not for a moment
        started = time.monotonic()
        http_client.stop()
        errors = [future.exception(timeout=5) for future in futures]
        assert time.monotonic() - started < 1.5
    for error in errors:
        assert type(error) is Cancelled
        assert KEY.get_secret_value() not in "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
        assert error.__context__ is None


def test_a_stopped_client_sends_no_request() -> None:
    with serving(respond(SUCCESS)) as server, client(server.url) as http_client:
        http_client.stop()
        with pytest.raises(Cancelled):
            http_client.fetch(WINDOW)
        assert (http_client.requests, server.requests) == (0, [])


def test_threads_share_one_client_and_all_requests_are_counted() -> None:
    with (
        serving(respond(SUCCESS)) as server,
        client(server.url, timeout=Timeouts()) as http_client,
        ThreadPoolExecutor(8) as pool,
    ):
        responses = list(pool.map(lambda _: http_client.fetch(WINDOW), range(40)))
        assert [response.reply for response in responses] == [PAYLOAD] * 40
        assert http_client.requests == len(server.requests) == 40 + http_client.retries


# ---------------------------------------------------------------- where the key may go


@pytest.mark.parametrize(
    "url",
    [
        "http://api.anti-captcha.com",
        "http://127.0.0.1.evil.example",
        "http://localhost.evil.example",
        "http://127.0.0.1@evil.example",
        "http://192.168.0.1",
        "ftp://127.0.0.1",
        "api.anti-captcha.com",
        "https://",
        "",
        "https://user:pw@api.anti-captcha.com",
        "https://api.anti-captcha.com?x=1",
        "https://a b/\x00",
    ],
)
def test_the_key_is_only_sent_over_https_or_to_localhost(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        client(url)
    assert caught.value.hint
    assert "pw" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["https://api.anti-captcha.com/", "http://localhost:1", "http://127.9.9.9", "http://[::1]:8080/base"]
)
def test_https_and_localhost_are_accepted(url: str) -> None:
    with client(url) as http_client:
        assert http_client.requests == 0


def test_an_api_error_is_returned_with_its_http_status() -> None:
    with serving(respond(API_ERROR, "400 Bad Request")) as server:
        response, _ = fetch(server.url)
    assert isinstance(response.reply, ApiError)
    assert response.status == 400
