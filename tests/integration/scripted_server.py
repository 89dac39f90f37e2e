"""A local server whose every byte is scripted, with or without TLS."""

import shutil
import socket
import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

Script = Callable[[socket.socket], None]
"""What the server does after it has read a request."""


def respond(content: bytes, status: str = "200 OK", *headers: str) -> Script:
    lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(content)}", "Connection: close", *headers]
    return send("\r\n".join([*lines, "", ""]).encode() + content)


def send(text: bytes) -> Script:
    return lambda peer: peer.sendall(text)


def drip(start: bytes, piece: bytes) -> Script:
    """Send ``piece`` again and again for five seconds, often enough that no read times out."""

    def send_slowly(peer: socket.socket) -> None:
        peer.sendall(start)
        for _ in range(100):
            time.sleep(0.05)  # noqa: TID251 - the server's slowness is real
            peer.sendall(piece)

    return send_slowly


def flood(peer: socket.socket) -> None:
    peer.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while True:
        peer.sendall(b" " * 65536)


def reset(peer: socket.socket) -> None:
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def stay_silent(peer: socket.socket) -> None:
    peer.recv(1)  # until the client hangs up


@dataclass
class Server:
    """Responds to the n-th request with the n-th script; the last script repeats."""

    scripts: tuple[Script, ...]
    requests: list[bytes] = field(default_factory=list)
    url: str = ""
    on_connect: Callable[["Server", socket.socket], None] = lambda server, peer: server.handle(peer)

    def serve(self, listener: socket.socket) -> None:
        while True:
            try:
                peer, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self.on_connect, args=(self, peer), daemon=True).start()

    def handle(self, peer: socket.socket) -> None:
        with peer, suppress(OSError):
            request = b""
            while b"\r\n\r\n" not in request or not request.endswith(b"}"):
                piece = peer.recv(65536)
                if not piece:
                    return
                request += piece
            self.requests.append(request)
            self.scripts[min(len(self.requests), len(self.scripts)) - 1](peer)


@contextmanager
def serving(*scripts: Script) -> Iterator[Server]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Server(scripts, url=f"http://127.0.0.1:{listener.getsockname()[1]}/")
        thread = threading.Thread(target=server.serve, args=(listener,))
        thread.start()
        try:
            yield server
        finally:
            listener.shutdown(socket.SHUT_RDWR)  # close alone does not wake accept
            thread.join()


@contextmanager
def serving_tls(folder: Path, *scripts: Script) -> Iterator[Server]:
    """Like ``serving``, with TLS and a self-signed certificate in ``folder / "cert.pem"``."""
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 1 -subj /CN=localhost -addext"
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subprocess.run([*make.split(), "subjectAltName=DNS:localhost", *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")

    def wrap(server: Server, peer: socket.socket) -> None:
        with suppress(OSError), context.wrap_socket(peer, server_side=True) as secure:
            Server.handle(server, secure)

    with serving(*scripts) as server:
        server.on_connect = wrap
        server.url = server.url.replace("http://127.0.0.1", "https://localhost")
        yield server


needs_openssl = pytest.mark.skipif(
    shutil.which("openssl") is None, reason="makes its certificate with the openssl command"
)
