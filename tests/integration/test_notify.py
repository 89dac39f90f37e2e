"""A ping is sent once with the result; any failure is one warning without the URL."""

import logging
import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from etl.maintenance.notify import MAX_CHARS, ping
from etl.secret import Secret

TOKEN = "8c6f3b2e-unmistakable"

Peer = Callable[[socket.socket], None]


def responds(status: str, *headers: str) -> Peer:
    return lambda peer: peer.sendall(
        "\r\n".join([f"HTTP/1.1 {status}", "Content-Length: 0", *headers, "", ""]).encode()
    )


def hangs(peer: socket.socket) -> None:
    with suppress(OSError):
        peer.recv(1)


def drips(peer: socket.socket) -> None:
    with suppress(OSError):
        while True:
            peer.sendall(b"H")
            threading.Event().wait(0.05)


@contextmanager
def monitor(answer: Peer, tls: ssl.SSLContext | None = None) -> Iterator[tuple[str, list[bytes]]]:
    """Run a monitor on loopback; yield its URL and the requests it received."""
    received: list[bytes] = []

    def serve() -> None:
        with suppress(OSError):
            while True:
                peer, _ = listening.accept()
                with peer, suppress(OSError):
                    peer.settimeout(5)
                    stream = tls.wrap_socket(peer, server_side=True) if tls else peer
                    received.append(_request(stream))
                    answer(stream)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        threading.Thread(target=serve, daemon=True).start()
        yield f"http{'s' if tls else ''}://127.0.0.1:{listening.getsockname()[1]}/{TOKEN}", received
        with suppress(OSError):
            listening.shutdown(socket.SHUT_RDWR)


def _request(peer: socket.socket) -> bytes:
    text = b""
    while b"\r\n\r\n" not in text:
        text += peer.recv(65536)
    head, _, body = text.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.splitlines() if line.lower().startswith(b"content-length"))
    while len(body) < length:
        body += peer.recv(65536)
    return head + b"\r\n\r\n" + body


@pytest.mark.parametrize(("exit_code", "path"), [(0, ""), (1, "/fail"), (3, "/fail"), (130, "/fail")])
def test_success_and_failure_use_the_paths_of_healthchecks_io(
    exit_code: int, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    with monitor(responds("200 OK")) as (url, received):
        ping(Secret(url), exit_code, "default: 3 days\n  read 1 USD")
    [request] = received
    assert request.startswith(f"POST /{TOKEN}{path} HTTP/1.1\r\n".encode())
    assert request.endswith(b"\r\n\r\ndefault: 3 days\n  read 1 USD")
    assert caplog.messages == []


def test_query_string_of_the_url_stays() -> None:
    with monitor(responds("200 OK")) as (url, received):
        ping(Secret(f"{url}/?create=1"), 4, "")
    assert received[0].startswith(f"POST /{TOKEN}/fail?create=1 HTTP/1.1\r\n".encode())


def test_long_text_is_truncated() -> None:
    with monitor(responds("200 OK")) as (url, received):
        ping(Secret(url), 0, "x" * 2 * MAX_CHARS)
    assert received[0].partition(b"\r\n\r\n")[2] == b"x" * MAX_CHARS


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        (responds("404 Not Found"), "HTTP 404"),
        (responds("500 Oops"), "HTTP 500"),
        (responds("302 Found", "Location: /elsewhere"), "HTTP 302"),
        (lambda peer: None, "RemoteProtocolError"),
        (lambda peer: peer.sendall(b"nonsense\r\n\r\n"), "RemoteProtocolError"),
        (hangs, "in time|ReadTimeout"),
        (drips, "in time"),
    ],
    ids=["unknown", "broken", "redirect", "nothing", "no HTTP", "hang", "drip"],
)
def test_failure_is_one_quick_error_line_without_the_url(
    answer: Peer, expected: str, caplog: pytest.LogCaptureFixture
) -> None:
    began = time.monotonic()
    with caplog.at_level(logging.DEBUG, "etl"), monitor(answer) as (url, received):
        ping(Secret(url), 0, "done", timeout=0.5)
        assert time.monotonic() - began < 3
    assert len(received) == 1  # a redirect was not followed
    [record] = caplog.records
    assert record.levelno == logging.ERROR
    assert caplog.text.count("the ping was not delivered") == 1
    assert any(text in caplog.text for text in expected.split("|"))
    assert TOKEN not in caplog.text


def test_unreachable_monitor_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ping(Secret(f"http://127.0.0.1:{port}/{TOKEN}"), 0, "done")
    [message] = caplog.messages
    assert "ConnectError" in message
    assert TOKEN not in message


def test_invalid_url_is_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    ping(Secret(f"https://[{TOKEN}/"), 0, "done")
    [message] = caplog.messages
    assert TOKEN not in message


@pytest.mark.skipif(not shutil.which("openssl"), reason="needs openssl to make a certificate")
def test_untrusted_certificate_is_rejected(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost", "-days", "1"]
    subprocess.run([*command, "-keyout", "key", "-out", "cert"], cwd=tmp_path, check=True, capture_output=True)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with monitor(responds("200 OK"), tls) as (url, received):
        ping(Secret(url), 0, "done")
    [message] = caplog.messages
    assert "certificate" in message.lower()
    assert received == []
