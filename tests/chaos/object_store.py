"""A stand-in for S3 on loopback, behind a proxy that sometimes fails as stores and networks do."""

import os
import random
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from multiprocessing import get_context
from typing import Any, NamedTuple

from tests.extended.environment import environment
from tests.postgres import free_port

_REFUSALS = {
    "credentials expired": (403, b"<Error><Code>ExpiredToken</Code><Message>The token has expired.</Message></Error>"),
    "slow down": (503, b"<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>"),
}
FAULTS = (*_REFUSALS, "upload cut", "response lost", "response cut")
"""After a lost response the store has done what it was asked for, but the program cannot know."""

NAMES = ("GET", "HEAD", "PUT", "POST", "DELETE", *FAULTS)
_HOP_HEADERS = {"connection", "transfer-encoding", "content-length"}


class ObjectStore(NamedTuple):
    """A bucket. The proxy is a process of its own, because deltalake keeps other threads of its process waiting."""

    location: str
    share: Any = None
    counts: Any = None

    def fail(self, share: float) -> None:
        """Let this share of the following requests fail."""
        if self.share:
            self.share.value = share

    def requests(self) -> dict[str, int]:
        """Number of requests by method, and of injected faults by name."""
        return dict(zip(NAMES, self.counts, strict=True)) if self.counts else {}

    def add(self, name: str) -> None:
        with self.counts.get_lock():
            self.counts[NAMES.index(name)] += 1


@contextmanager
def object_store(seed: int = 1) -> Iterator[ObjectStore]:
    """An empty bucket, and the variables by which deltalake finds it."""
    inner, outer = free_port(), free_port()
    endpoint = f"http://127.0.0.1:{outer}"
    program = environment("lake", (3, 10), (3, 13)) / "moto_server"
    fork = get_context("fork")
    store = ObjectStore("s3://spending/lake", fork.Value("d", 0.0), fork.Array("q", len(NAMES)))
    server = subprocess.Popen([program, "-H", "127.0.0.1", "-p", str(inner)], stderr=subprocess.DEVNULL)
    proxy = _Proxy(("127.0.0.1", outer), inner, store, seed)
    process = fork.Process(target=proxy.serve_forever, daemon=True)
    process.start()
    proxy.server_close()
    try:
        os.environ |= {
            "AWS_ENDPOINT_URL": endpoint, "AWS_ALLOW_HTTP": "true", "AWS_REGION": "us-east-1",
            "AWS_ACCESS_KEY_ID": "key", "AWS_SECRET_ACCESS_KEY": "secret",
        }  # fmt: skip
        for _ in range(200):
            threading.Event().wait(0.1)
            try:
                urllib.request.urlopen(urllib.request.Request(f"{endpoint}/spending", method="PUT"))
            except OSError:
                continue
            break
        yield store
    finally:
        process.kill()
        server.terminate()
        server.wait()


class _Proxy(ThreadingHTTPServer):
    def __init__(self, address: tuple[str, int], port: int, store: ObjectStore, seed: int) -> None:
        super().__init__(address, _Handler)
        self.port, self.store, self.source = port, store, random.Random(seed)

    def handle_error(self, *_: object) -> None:
        """Say nothing: a client that was killed is no longer there."""


class _Handler(BaseHTTPRequestHandler):
    server: "_Proxy"
    protocol_version = "HTTP/1.1"

    def answer(self) -> None:
        store, source = self.server.store, self.server.source
        store.add(self.command)
        fault = source.choice(FAULTS) if source.random() < store.share.value else ""
        if fault:
            store.add(fault)
        size = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(size // 2 if fault == "upload cut" else size)
        if fault == "upload cut":
            return self.drop()
        if fault in _REFUSALS:
            return self.send(*_REFUSALS[fault])
        connection = HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(self.command, self.path, body, dict(self.headers.items()))
            response = connection.getresponse()
            found = response.read()
        except OSError:
            return self.drop()
        finally:
            connection.close()
        if fault == "response lost":
            return self.drop()
        headers = {name: value for name, value in response.getheaders() if name.lower() not in _HOP_HEADERS}
        size = int(response.getheader("Content-Length") or 0) if self.command == "HEAD" else len(found)
        return self.send(response.status, found[: len(found) // 2] if fault else found, headers, size)

    def send(self, status: int, body: bytes, headers: dict[str, str] | None = None, size: int | None = None) -> None:
        self.send_response_only(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) if size is None else size))
        self.end_headers()
        self.wfile.write(body)
        if size is not None and self.command != "HEAD" and len(body) < size:
            self.drop()

    def drop(self) -> None:
        self.close_connection = True
        self.connection.close()

    def log_message(self, *_: object) -> None:
        """Say nothing."""

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = answer  # noqa: N815 - names of http.server
