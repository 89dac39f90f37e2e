"""The sandbox over HTTP: every fault, and how the server starts and ends."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import time
from datetime import date
from decimal import Decimal
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from etl.clock import Clock
from etl.sandbox.behaviour import METHOD, Behaviour, Fault, FaultKind
from etl.sandbox.dataset import DAY
from etl.sandbox.server import Sandbox
from tests.integration.sandbox_client import (
    DATASET,
    DEFAULTS,
    QUEUE,
    START,
    ask,
    code,
    connected,
    post,
    raw,
    sandbox,
)

# ---------------------------------------------------------------- faults


@pytest.mark.parametrize(
    ("kind", "error_id", "error_code"),
    [
        (FaultKind.REFUSE_KEY, 1, "ERROR_KEY_DOES_NOT_EXIST"),
        (FaultKind.IP_BLOCKED, 21, "ERROR_IP_BLOCKED"),
        (FaultKind.SUSPENDED, 55, "ERROR_ACCOUNT_SUSPENDED"),
        (FaultKind.IP_NOT_ALLOWED, 11, "ERROR_IP_NOT_ALLOWED"),
        (FaultKind.ZERO_BALANCE, 10, "ERROR_ZERO_BALANCE"),
        (FaultKind.ACCESS_DENIED, 60, "ERROR_ACCESS_DENIED"),
        (FaultKind.UNKNOWN_CODE, 12, "ERROR_NEVER_SEEN_BEFORE"),
        (FaultKind.NO_SLOT, 2, "ERROR_NO_SLOT_AVAILABLE"),
    ],
)
def test_api_errors_are_in_the_body_with_status_200(kind: FaultKind, error_id: int, error_code: str) -> None:
    with sandbox(DEFAULTS, Fault(kind)) as server:
        response, body = post(server)
    assert response.status == 200
    assert (json.loads(body)["errorId"], json.loads(body)["errorCode"]) == (error_id, error_code)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FaultKind.HTML, 200), (FaultKind.HTML_500, 500), (FaultKind.HTML_502, 502), (FaultKind.HTML_503, 503)],
)
def test_proxy_faults_return_an_html_page(kind: FaultKind, status: int) -> None:
    with sandbox(DEFAULTS, Fault(kind)) as server:
        response, body = post(server)
    assert response.status == status
    assert (response.getheader("Content-Type") or "").startswith("text/html")
    assert body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("text", ["3", "Thu, 05 Jun 2025 16:31:00 GMT", "99999999999"])
def test_429_has_the_given_retry_after(text: str) -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.RETRY_AFTER, retry_after=text)) as server:
        response, _ = post(server)
    assert (response.status, response.getheader("Retry-After")) == (429, text)


def test_redirect_target_is_logged_if_followed() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.REDIRECT)) as server:
        response, _ = post(server)
        assert (response.status, response.getheader("Location")) == (302, "/elsewhere")
        with connected(server) as connection:
            connection.request("GET", "/elsewhere")
            assert json.loads(connection.getresponse().read())["errorCode"] == "ERROR_NO_SUCH_METHOD"
        assert [request.path for request in server.requests] == [METHOD, "/elsewhere"]


def test_empty_body_has_status_200() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.EMPTY)) as server:
        response, body = post(server)
    assert (response.status, body) == (200, b"")


def test_truncated_body_matches_its_content_length() -> None:
    with sandbox() as server:
        _, whole = post(server)
        server.faults = (Fault(FaultKind.TRUNCATED),)
        response, body = post(server)
    assert int(response.getheader("Content-Length") or 0) == len(body) == len(whole) // 2
    assert whole.startswith(body)


def test_half_sent_body_is_shorter_than_its_content_length() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.HALF_SENT)) as server, pytest.raises(http.client.IncompleteRead) as broken:
        post(server)
    assert broken.value.expected


def test_reset_connection_sends_nothing() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.RESET)) as server:
        with pytest.raises(ConnectionResetError):
            raw(server)
        assert server.requests[0].status is None


def test_hang_sends_nothing_for_its_duration() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.HANG, seconds=60)) as server:
        with connected(server, timeout=0.2) as connection:
            connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
            with pytest.raises(TimeoutError):
                connection.getresponse()
        server.faults = (Fault(FaultKind.HANG, seconds=0.2),)
        started = time.monotonic()
        assert ask(server)["errorId"] == 0
        assert time.monotonic() - started >= 0.2


def test_slow_drip_sends_the_whole_body_slowly() -> None:
    with sandbox() as server:
        whole = ask(server)
        server.faults = (Fault(FaultKind.SLOW_DRIP, seconds=0.3),)
        started = time.monotonic()
        assert ask(server) == whole
        assert time.monotonic() - started >= 0.3


def test_endless_body_continues_until_the_client_disconnects() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.ENDLESS)) as server, connected(server) as connection:
        connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
        response = connection.getresponse()
        assert response.getheader("Content-Length") is None
        assert len(response.read(20_000_000)) == 20_000_000
        response.close()


def test_one_record_can_be_damaged_and_the_others_stay() -> None:
    with sandbox() as server:
        good = ask(server)["data"]
        bad = {}
        for kind in (FaultKind.NAN, FaultKind.NEGATIVE, FaultKind.NEGATIVE_VOLUME):
            server.faults = (Fault(kind),)
            [bad[kind]] = [record for record in ask(server)["data"] if record not in good]
        for behaviour in (Behaviour(numbers="string"), Behaviour(numbers="noise")):
            server.behaviour, server.faults = behaviour, (Fault(FaultKind.NAN),)
            assert b"NaN" in post(server)[1]
    assert bad[FaultKind.NAN]["money"] != bad[FaultKind.NAN]["money"]
    assert bad[FaultKind.NEGATIVE]["money"] < 0 < bad[FaultKind.NEGATIVE]["volume"]
    assert bad[FaultKind.NEGATIVE_VOLUME]["volume"] < 0 < bad[FaultKind.NEGATIVE_VOLUME]["money"]


def test_vendor_page_is_not_json_but_the_vendor_example_is() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.VENDOR_PAGE)) as server:
        _, page = post(server)
        server.faults = (Fault(FaultKind.VENDOR_EXAMPLE),)
        example = ask(server)
    assert b"....." in page
    with pytest.raises(ValueError, match="Expecting"):
        json.loads(page)
    assert [(record["dateFrom"], record["money"]) for record in example["data"]] == [
        (1550533500, Decimal("7.495948")),
        (1550537100, Decimal("7.861741")),
        (1550612700, Decimal("7.827058")),
    ]


def test_success_variants() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.ERROR_ID_STRING)) as server:
        assert ask(server)["errorId"] == "0"
        server.faults = (Fault(FaultKind.NULL_DATA),)
        assert ask(server) == {"errorId": 0, "data": None}
        server.faults = (Fault(FaultKind.NO_DATA),)
        assert ask(server) == {"errorId": 0}


def test_every_fault_kind_is_tested_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in FaultKind if f"FaultKind.{kind.name}" not in text] == []


def test_one_app_or_ip_can_be_denied_while_others_work() -> None:
    with sandbox() as server:
        for series, (one, other, *_), fault in (
            ("softId", DATASET.apps, Fault(FaultKind.ACCESS_DENIED, soft_ids=(DATASET.apps[0],))),
            ("ip", DATASET.ips, Fault(FaultKind.ACCESS_DENIED, ips=(DATASET.ips[0],))),
        ):
            server.faults = ()
            assert ask(server, **{series: one})["errorId"] == 0
            server.faults = (fault,)
            assert [code(server, **{series: one}) for _ in range(2)] == ["ERROR_ACCESS_DENIED"] * 2
            assert ask(server, **{series: other})["errorId"] == ask(server)["errorId"] == 0


def test_faults_match_by_number_day_member_and_attempt() -> None:
    def is_faulty(server: Sandbox, **fields: object) -> bool:
        post(server, METHOD, **fields)
        return server.requests[-1].fault is not None

    with sandbox(DEFAULTS, Fault(FaultKind.EMPTY, numbers=(2, 3))) as server:
        assert [is_faulty(server) for _ in range(4)] == [False, True, True, False]
        server.faults = (Fault(FaultKind.EMPTY, days=(date(2025, 6, 2),), queues=(None,)),)
        assert [is_faulty(server), is_faulty(server, queue=QUEUE), is_faulty(server, date=START - DAY)] == [
            True,
            False,
            False,
        ]
        server.faults = (Fault(FaultKind.EMPTY, queues=(QUEUE,)),)
        assert [is_faulty(server), is_faulty(server, queue=QUEUE)] == [False, True]
        server.faults = (Fault(FaultKind.EMPTY, queues=(None,), soft_ids=(None,), ips=(None,)),)
        assert [is_faulty(server), is_faulty(server, softId=DATASET.apps[0]), is_faulty(server, ip=DATASET.ips[0])] == [
            True,
            False,
            False,
        ]
        server.faults = (Fault(FaultKind.EMPTY, attempts=(1,)),)
        assert [is_faulty(server), is_faulty(server), is_faulty(server, queue=QUEUE)] == [True, False, True]
        server.faults = (Fault(FaultKind.EMPTY, attempts=(1,)),)
        assert is_faulty(server)


def test_rate_affects_the_same_share_of_requests_every_time() -> None:
    def is_faulty() -> list[int]:
        with sandbox(DEFAULTS, Fault(FaultKind.EMPTY, rate=0.3)) as server, connected(server) as connection:
            for index in range(200):
                connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START - index * DAY}))
                connection.getresponse().read()
            return [index for index, request in enumerate(server.requests) if request.fault]

    first = is_faulty()
    assert 35 < len(first) < 85
    assert is_faulty() == first


# ---------------------------------------------------------------- the server


def test_server_listens_on_loopback_only_and_keeps_connections_open() -> None:
    with sandbox() as server, connected(server) as connection:
        assert server.url.startswith("http://127.0.0.1:")
        connection.connect()
        open_socket = connection.sock
        for _ in range(3):
            connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
            assert connection.getresponse().read()
            assert connection.sock is open_socket


@pytest.mark.parametrize(
    "fault", [Fault(FaultKind.HANG, seconds=60), Fault(FaultKind.SLOW_DRIP, seconds=60), Fault(FaultKind.ENDLESS)]
)
def test_server_closes_at_once_and_frees_the_port(fault: Fault) -> None:
    with sandbox(Behaviour(), fault) as server, connected(server) as idle, connected(server) as active:
        port = urlsplit(server.url).port or 0
        idle.connect()
        active.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
        while not server.requests:
            Clock().sleep(0.01)
        started = time.monotonic()
        server.__exit__(None, None, None)
        assert time.monotonic() - started < 10
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        server.__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_run_forever_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
    program = (
        "from etl.sandbox.dataset import Dataset\n"
        "from etl.sandbox.server import Sandbox, run_forever\n"
        "run_forever(Sandbox(Dataset()), lambda url: print(url, flush=True))\n"
        "print('closed')\n"
    )
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        assert process.stdout.readline().startswith("http://127.0.0.1:")
        process.send_signal(number)
        out, err = process.communicate(timeout=5)
    assert (process.returncode, out, err) == (0, "closed\n", "")
