"""The door to HTTP against a real server on loopback whose every byte is scripted."""

import gzip
import json
import logging
import socket
import ssl
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path

import httpx
import pytest

from etl.clock import Clock
from etl.errors import UsageError
from etl.extract.client import MAX_BODY_BYTES, Cancelled, Client
from etl.extract.rate_limit import RateLimiter
from etl.extract.transport import Timeouts
from etl.models import TOTAL, Window
from etl.responses import ApiError, InvalidResponse, ParsedResponse, RawRecord, Response, SuccessPayload, TransportError
from etl.secret import Secret
from tests.integration.scripted_server import (
    Script,
    drips,
    floods,
    needs_openssl,
    resets,
    says,
    says_nothing,
    sends,
    serving,
    serving_tls,
)  # fmt: skip

KEY = Secret("0123456789abcdef0123456789abcdef")
WINDOW = Window.whole_day("default", TOTAL, date(2026, 1, 1))
GOOD = b'{"errorId":0,"data":[{"dateFrom":1767225600,"dateTill":1767229199,"volume":5,"money":7.495948}]}'
ROWS = SuccessPayload((RawRecord(1767225600, 1767229199, 5, Decimal("7.495948"), GOOD[21:-2].decode()),))
REFUSED = b'{"errorId":2,"errorCode":"ERROR_X","errorDescription":"no"}'
SHORT = Timeouts(connect=0.3, read=0.3, write=0.3, pool=0.3, total=0.6)

# ---------------------------------------------------------------- the client


@pytest.fixture(autouse=True)
def no_proxy_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)


class Rest:
    """A clock that runs as usual, but whose sleepers only say how long they would have slept."""

    def __init__(self) -> None:
        self.slept = 0.0
        self.clock = Clock(monotonic=lambda: time.monotonic() + self.slept, sleep=self.sleep)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds


def client(url: str, clock: Clock | None = None, timeout: Timeouts = SHORT, key: Secret = KEY) -> Client:
    clock = clock or Rest().clock
    return Client(url, key, RateLimiter(0, clock), clock, lambda: 0.0, 4, timeouts=timeout)


def ask(url: str, settled: frozenset[str] = frozenset()) -> tuple[Response, float]:
    """The answer, and for how long it would have waited between requests."""
    unattributed = Rest()
    with client(url, unattributed.clock) as one:
        answer = one.fetch(WINDOW, settled)
        assert (one.requests, one.retries) == (answer.requests, answer.requests - 1)
    return answer, round(unattributed.slept, 3)


def code(reply: ParsedResponse) -> str:
    assert not isinstance(reply, SuccessPayload)
    return reply.code


# ---------------------------------------------------------------- one window in, one answer out


def test_a_window_is_posted_as_json_and_its_answer_kept_as_it_came() -> None:
    with serving(says(GOOD, "200 OK", "Date: Fri, 02 Jan 2026 03:04:05 GMT")) as server:
        before = datetime.now(UTC)
        answer, slept = ask(server.url)
    assert before <= answer.requested_at <= datetime.now(UTC)
    assert answer == Response(
        WINDOW, answer.requested_at, ROWS, 200, GOOD, 1, datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    )
    assert slept == 0
    head, body = server.requests[0].split(b"\r\n\r\n")
    assert head.startswith(b"POST /getSpendingStats HTTP/1.1\r\n")
    assert b"\r\nUser-Agent: anticaptcha-etl/" in head
    assert b"\r\nContent-Type: application/json" in head
    assert json.loads(body) == {"clientKey": KEY.get_secret_value(), "date": 1767225600}


def test_a_compressed_answer_is_read_too() -> None:
    with serving(says(gzip.compress(GOOD), "200 OK", "Content-Encoding: gzip")) as server:
        assert ask(server.url)[0].body == GOOD


def test_an_api_error_gets_one_spaced_retry() -> None:
    with serving(says(REFUSED)) as server:
        answer, slept = ask(server.url)
    assert (code(answer.reply), answer.requests, slept) == ("ERROR_X", 2, 5.0)


def test_records_that_cannot_be_used_are_asked_for_once_more() -> None:
    worse = GOOD.replace(b"7.495948", b"-1")
    with serving(says(worse), says(GOOD)) as server, client(server.url) as one:
        assert one.fetch(WINDOW, is_usable=lambda answer: answer.body == GOOD).reply == ROWS
    with serving(says(worse)) as server, client(server.url) as one:
        answer = one.fetch(WINDOW, is_usable=lambda answer: answer.body == GOOD)
    assert (answer.body, answer.requests, len(server.requests)) == (worse, 2, 2)


def test_a_settled_error_is_not_asked_again() -> None:
    with serving(says(REFUSED)) as server:
        answer, slept = ask(server.url, frozenset({"ERROR_X"}))
    assert (code(answer.reply), answer.requests, slept) == ("ERROR_X", 1, 0)


def test_a_wrong_key_costs_one_request() -> None:
    with serving(says(REFUSED.replace(b"ERROR_X", b"ERROR_KEY_DOES_NOT_EXIST"))) as server:
        assert ask(server.url)[0].requests == 1
    assert len(server.requests) == 1


def test_trouble_is_waited_out_and_the_answer_is_the_last_one() -> None:
    with serving(says(b"<html>", "502 Bad Gateway"), says(b""), resets, says(GOOD)) as server:
        answer, slept = ask(server.url)
    assert (answer.reply, answer.requests, slept) == (ROWS, 4, 1.0 + 2.0 + 4.0)


def test_six_requests_are_the_most() -> None:
    with serving(says(b"", "503 Service Unavailable")) as server:
        answer, _ = ask(server.url)
    assert (code(answer.reply), answer.status, answer.requests, len(server.requests)) == ("http_503", 503, 6, 6)


def test_retry_after_is_honoured_by_all_threads() -> None:
    unattributed = Rest()
    pace = RateLimiter(0, unattributed.clock)
    with (
        serving(says(b"", "429 Too Many Requests", "Retry-After: 42"), says(GOOD)) as server,
        Client(server.url, KEY, pace, unattributed.clock, lambda: 0.0, 1) as one,
    ):
        assert one.fetch(WINDOW).requests == 2
    assert unattributed.slept == pytest.approx(42, abs=0.01)
    pace.pause(0)
    with (
        serving(says(b"", "403 Forbidden", "Retry-After: 30")) as server,
        Client(server.url, KEY, pace, unattributed.clock, lambda: 0.0, 1) as one,
    ):
        assert one.fetch(WINDOW).requests == 1
        assert pace.acquire(lambda: False)
    assert unattributed.slept == pytest.approx(72, abs=0.02)


# ---------------------------------------------------------------- what the network does


@pytest.mark.parametrize(
    ("script", "kind", "expected"),
    [
        (resets, TransportError, "reset"),
        (says_nothing, TransportError, "timeout"),
        (sends(b"220 mail.example ESMTP\r\n\r\n"), TransportError, "protocol"),
        (sends(b""), TransportError, "protocol"),
        (drips(b"HTTP/1.1 200 OK\r\nX-Slow: ", b"x"), TransportError, "timeout"),
        (drips(b"HTTP/1.1 200 OK\r\n\r\n", b" "), InvalidResponse, "timeout"),
        (drips(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1;", b"x"), InvalidResponse, "timeout"),
        (sends(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + GOOD), InvalidResponse, "cut_body"),
        (sends(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), InvalidResponse, "cut_body"),
        (says(GOOD, "200 OK", "Content-Encoding: gzip"), InvalidResponse, "cut_body"),
        (floods, InvalidResponse, "too_large"),
        (
            says(gzip.compress(b" " * (MAX_BODY_BYTES + 1)), "200 OK", "Content-Encoding: gzip"),
            InvalidResponse,
            "too_large",
        ),
        (says(gzip.compress(GOOD)[:-9], "200 OK", "Content-Encoding: gzip"), InvalidResponse, "cut_body"),
        (says(gzip.compress(GOOD) + b" ", "200 OK", "Content-Encoding: gzip"), InvalidResponse, "cut_body"),
        (says(GOOD, "200 OK", "Content-Encoding: br"), InvalidResponse, "cut_body"),
        (says(gzip.compress(GOOD), "200 OK", "Content-Encoding: gzip, gzip"), InvalidResponse, "cut_body"),
    ],
)
def test_trouble_ends_within_its_time_and_has_a_name(script: Script, kind: type[ParsedResponse], expected: str) -> None:
    with serving(script, says(b"", "404 Not Found")) as server:
        unattributed = Rest()
        with client(server.url, unattributed.clock) as one:
            came = one.fetch_once(WINDOW).answer
    assert isinstance(came.reply, kind)
    assert code(came.reply) == expected
    assert (came.status == 200) is (kind is InvalidResponse)


def test_a_cut_body_is_refused_and_kept() -> None:
    dimension = b"HTTP/1.1 404 Not Found\r\nContent-Length: 500\r\n\r\n" + GOOD
    with serving(sends(dimension)) as server:
        answer, _ = ask(server.url)
    assert (code(answer.reply), answer.body, answer.status) == ("cut_body", GOOD, 404)


def test_nothing_listening_is_named_connect() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    answer, _ = ask(f"http://127.0.0.1:{port}")
    assert (code(answer.reply), answer.status, answer.requests, answer.server_time) == ("connect", None, 6, None)


def test_a_server_that_does_not_speak_tls_is_named_tls() -> None:
    def speak_plainly(listener: socket.socket) -> None:
        peer, _ = listener.accept()
        with peer:
            hello.append(peer.recv(65536))
            peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

    hello: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=speak_plainly, args=(listener,))
        thread.start()
        with client(f"https://127.0.0.1:{listener.getsockname()[1]}") as one:
            reply = one.fetch_once(WINDOW).answer.reply
        thread.join()
    assert code(reply) == "tls"
    assert KEY.get_secret_value().encode() not in hello[0]


@needs_openssl
def test_a_certificate_nobody_signed_gets_no_key(tmp_path: Path) -> None:
    with serving_tls(tmp_path, says(GOOD)) as server, client(server.url) as one:
        assert code(one.fetch_once(WINDOW).answer.reply) == "tls"
    assert server.requests == []


@needs_openssl
def test_a_certificate_of_the_machines_own_authority_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with serving_tls(tmp_path, says(GOOD)) as server:
        assert ask(server.url)[0].reply == ROWS


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
def test_no_variable_switches_the_look_at_certificates_off(
    tmp_path: Path, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name, _, value = variable.partition("=")
    monkeypatch.setenv(name, value.format(cert=tmp_path / "cert.pem"))
    with serving_tls(tmp_path, says(GOOD)) as server, client(server.url) as one:
        assert code(one.fetch_once(WINDOW).answer.reply) == "tls"
    assert server.requests == []


@needs_openssl
def test_a_trusted_certificate_of_another_host_gets_no_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "cert.pem"))
    with serving_tls(tmp_path, says(GOOD)) as server, client(server.url.replace("localhost", "127.0.0.1")) as one:
        assert code(one.fetch_once(WINDOW).answer.reply) == "tls"
    assert server.requests == []


@pytest.mark.parametrize("name", ["SSL_CERT_FILE", "SSL_CERT_DIR"])
def test_certificates_are_looked_at_whatever_is_trusted(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder, or nothing at all, in a variable leaves nobody trusted: not everybody."""
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setenv(name, "" if name == "SSL_CERT_FILE" else str(tmp_path))
    with client("https://localhost:1") as one:
        transport = one._http._transport
        assert isinstance(transport, httpx.HTTPTransport)
        context = transport._pool._ssl_context
        assert context is not None
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context.minimum_version >= ssl.TLSVersion.TLSv1_2


@pytest.mark.parametrize("content", [None, "no certificate\n"])
def test_certificates_that_cannot_be_read_are_named_and_no_reason_to_trust(
    tmp_path: Path, content: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "authorities.pem"
    if content:
        file.write_text(content)
    monkeypatch.setenv("SSL_CERT_FILE", str(file))
    with pytest.raises(UsageError, match="SSL_CERT_FILE"):
        client("https://localhost:1")


def test_a_host_name_nobody_can_have_is_named_dns() -> None:
    with client("https://" + "a" * 64 + ".invalid") as one:
        assert code(one.fetch_once(WINDOW).answer.reply) == "dns"


def test_a_redirect_is_not_followed() -> None:
    with (
        serving(says(GOOD)) as elsewhere,
        serving(says(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}x?y=z")) as server,
    ):
        answer, _ = ask(server.url)
    assert answer.reply == InvalidResponse("redirect", "HTTP 307 points to 127.0.0.1; redirects are not followed")
    assert (len(server.requests), len(elsewhere.requests)) == (1, 0)


@pytest.mark.parametrize("variable", ["HTTP_PROXY", "http_proxy", "ALL_PROXY"])
def test_this_machine_is_never_asked_by_a_proxy(variable: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving(says(GOOD)) as server, serving(says(b"")) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        assert ask(server.url)[0].reply == ROWS


def test_the_machines_proxy_is_used_for_the_world(monkeypatch: pytest.MonkeyPatch) -> None:
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
        with client("https://api.example.invalid") as one:
            reply = one.fetch_once(WINDOW).answer.reply
        thread.join()
    assert code(reply) == "proxy"
    assert tunnels[0].startswith(b"CONNECT api.example.invalid:443 HTTP/1.1\r\n")
    assert KEY.get_secret_value().encode() not in tunnels[0]


# ---------------------------------------------------------------- the key


@pytest.mark.parametrize(
    "script",
    [
        says(
            b'{"errorId":1,"errorCode":"ERROR_'
            + KEY.get_secret_value().encode()
            + b'","errorDescription":"'
            + KEY.get_secret_value().encode()
            + b'"}'
        ),
        says(b"<html>you sent " + KEY.get_secret_value().encode()),
        says(b"", "302 Found", f"Location: https://{KEY.get_secret_value()}/"),
        sends(KEY.get_secret_value().encode() + b"\r\n\r\n"),
        sends(b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n" + KEY.get_secret_value().encode()),
        resets,
    ],
)
def test_a_key_echoed_by_the_server_is_neither_kept_nor_said(script: Script, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with serving(script) as server:
        answer, _ = ask(server.url)
    assert KEY.get_secret_value().encode() in server.requests[0]
    assert KEY.get_secret_value() not in repr(answer) + repr(answer.body) + caplog.text


def test_a_retry_is_logged_with_its_window_cause_and_wait(caplog: pytest.LogCaptureFixture) -> None:
    with serving(says(b"oops", "502 Bad Gateway"), says(GOOD)) as server:
        ask(server.url)
    (line,) = [record.getMessage() for record in caplog.records if record.name == "etl.extract.client"]
    assert line == ("default 2026-01-01 total: http_502, HTTP 502 with 4 bytes, 'oops'; retry 1 in 1.0 s")


# ---------------------------------------------------------------- stopping


@pytest.mark.parametrize(
    "script",
    [
        says_nothing,
        says(b"", "503 Service Unavailable", "Retry-After: 300"),
        drips(b"HTTP/1.1 404 Not Found\r\n\r\n", b" "),
    ],
)
def test_a_stop_frees_every_thread_at_once(script: Script) -> None:
    with serving(script) as server, client(server.url, Clock(), Timeouts()) as one, ThreadPoolExecutor(4) as pool:
        asked = [pool.submit(one.fetch, WINDOW) for _ in range(4)]
        while not server.requests:
            time.sleep(0.01)  # noqa: TID251 - waits for the server, not for a moment
        began = time.monotonic()
        one.stop()
        errors = [future.exception(timeout=5) for future in asked]
        assert time.monotonic() - began < 1.5
    for error in errors:
        assert type(error) is Cancelled
        assert KEY.get_secret_value() not in "".join(
            traceback.TracebackException.from_exception(error, capture_locals=True).format()
        )
        assert error.__context__ is None


def test_a_stopped_client_asks_nothing() -> None:
    with serving(says(GOOD)) as server, client(server.url) as one:
        one.stop()
        with pytest.raises(Cancelled):
            one.fetch(WINDOW)
        assert (one.requests, server.requests) == (0, [])


def test_threads_share_one_client_and_every_request_is_counted() -> None:
    with serving(says(GOOD)) as server, client(server.url, timeout=Timeouts()) as one, ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: one.fetch(WINDOW), range(40)))
        assert [answer.reply for answer in answers] == [ROWS] * 40
        assert one.requests == len(server.requests) == 40 + one.retries


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
def test_the_key_goes_only_where_it_is_safe(url: str) -> None:
    with pytest.raises(UsageError) as caught:
        client(url)
    assert caught.value.hint
    assert "pw" not in caught.value.message


@pytest.mark.parametrize(
    "url", ["https://api.anti-captcha.com/", "http://localhost:1", "http://127.9.9.9", "http://[::1]:8080/base"]
)
def test_https_and_this_machine_are_accepted(url: str) -> None:
    with client(url) as one:
        assert one.requests == 0


def test_a_refusal_is_a_value_with_its_http_status() -> None:
    with serving(says(REFUSED, "400 Bad Request")) as server:
        answer, _ = ask(server.url)
    assert isinstance(answer.reply, ApiError)
    assert answer.status == 400
