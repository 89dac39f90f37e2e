"""Send requests to a sandbox and read its responses."""

import http.client
import json
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from etl.sandbox.behaviour import METHOD, Behaviour, Fault
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox

NOW = datetime(2025, 6, 5, 16, 30, tzinfo=UTC)
DAY_START = datetime(2025, 6, 2, tzinfo=UTC)
START = int(DAY_START.timestamp())
QUEUE = "English ImageToText"
DEFAULTS = Behaviour()
DATASET = Dataset.always_active(queues=3)


def sandbox(behaviour: Behaviour = DEFAULTS, *faults: Fault, dataset: Dataset = DATASET) -> Sandbox:
    return Sandbox(dataset, behaviour, faults, now=lambda: NOW)


@contextmanager
def connected(server: Sandbox, timeout: float = 5) -> Iterator[http.client.HTTPConnection]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port or 0, timeout=timeout)
    ) as connection:
        yield connection


def post(server: Sandbox, path: str = METHOD, /, **fields: object) -> tuple[http.client.HTTPResponse, bytes]:
    with connected(server) as connection:
        connection.request("POST", path, json.dumps({"clientKey": "k", "date": START} | fields))
        response = connection.getresponse()
        return response, response.read()


def ask(server: Sandbox, **fields: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(post(server, METHOD, **fields)[1], parse_float=Decimal)
    return answer


def code(server: Sandbox, **fields: object) -> str:
    answer = ask(server, **fields)
    assert set(answer) == {"errorId", "errorCode", "errorDescription"}
    assert answer["errorId"] > 0
    return str(answer["errorCode"])


def raw(server: Sandbox) -> bytes:
    """Send one request and return every byte until the server closes the connection."""
    body = json.dumps({"clientKey": "k", "date": START}).encode()
    head = f"POST {METHOD} HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        return b"".join(iter(lambda: connection.recv(65_536), b""))
