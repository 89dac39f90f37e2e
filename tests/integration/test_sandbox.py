"""The sandbox over real HTTP: every behaviour that can be chosen and every fault that can be ordered."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import ROUND_FLOOR, Decimal
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

from etl.clock import Clock
from etl.sandbox.behaviour import METHOD, Behaviour, Fault, FaultKind
from etl.sandbox.dataset import DAY, HOUR, Dataset
from etl.sandbox.server import Sandbox

NOW = datetime(2025, 6, 5, 16, 30, tzinfo=UTC)
DAY_START = datetime(2025, 6, 2, tzinfo=UTC)
START = int(DAY_START.timestamp())
QUEUE = "English ImageToText"
LIKELIEST = Behaviour()
BUSY = Dataset.busy(queues=3)


def sandbox(behaviour: Behaviour = LIKELIEST, *faults: Fault, dataset: Dataset = BUSY) -> Sandbox:
    return Sandbox(dataset, behaviour, faults, now=lambda: NOW)


@contextmanager
def connected(server: Sandbox, timeout: float = 5) -> Iterator[http.client.HTTPConnection]:
    with closing(
        http.client.HTTPConnection("127.0.0.1", urlsplit(server.url).port or 0, timeout=timeout)
    ) as connection:
        yield connection


def post(server: Sandbox, path: str = METHOD, /, **asked: object) -> tuple[http.client.HTTPResponse, bytes]:
    with connected(server) as connection:
        connection.request("POST", path, json.dumps({"clientKey": "k", "date": START} | asked))
        response = connection.getresponse()
        return response, response.read()


def ask(server: Sandbox, **asked: object) -> dict[str, Any]:
    answer: dict[str, Any] = json.loads(post(server, METHOD, **asked)[1], parse_float=Decimal)
    return answer


def code(server: Sandbox, **asked: object) -> str:
    answer = ask(server, **asked)
    assert set(answer) == {"errorId", "errorCode", "errorDescription"}
    assert answer["errorId"] > 0
    return str(answer["errorCode"])


def raw(server: Sandbox) -> bytes:
    """One request, and every byte that comes back until the server closes."""
    body = json.dumps({"clientKey": "k", "date": START}).encode()
    head = f"POST {METHOD} HTTP/1.1\r\nHost: sandbox\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
    with socket.create_connection(("127.0.0.1", urlsplit(server.url).port or 0), timeout=5) as connection:
        connection.sendall(head.encode() + body)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


# ---------------------------------------------------------------- the method as documented


def test_a_day_is_24_records_that_say_what_the_books_say() -> None:
    with sandbox() as server:
        answer = ask(server, queue=QUEUE)
    assert list(answer) == ["errorId", "data"]
    assert answer["errorId"] == 0
    assert [list(record) for record in answer["data"]] == [["dateFrom", "dateTill", "volume", "money"]] * 24
    assert [(record["dateFrom"], record["dateTill"]) for record in answer["data"]] == [
        (START + hour * HOUR, START + hour * HOUR + 3599) for hour in range(24)
    ]
    expected_rows = [
        (int(hour.timestamp()), volume, money)
        for queue, hour, volume, money in BUSY.expected_rows(DAY_START.date(), DAY_START.date(), NOW)
        if queue == QUEUE
    ]
    assert [(record["dateFrom"], record["volume"], record["money"]) for record in answer["data"]] == expected_rows


def test_apps_and_ips_answer_with_their_part_of_the_total() -> None:
    with sandbox() as server:
        total = ask(server)["data"][12]
        app = ask(server, softId=BUSY.apps[0])["data"][12]
        ip = ask(server, ip=BUSY.ips[0])["data"][12]
        stranger = ask(server, ip="203.0.113.9")["data"][12]
    assert 0 < app["money"] < total["money"]
    assert 0 < ip["money"] < total["money"]
    assert app["money"] != ip["money"]
    assert stranger["money"] == stranger["volume"] == 0


def test_today_ends_with_the_running_hour_as_grown_so_far() -> None:
    today = int(datetime(2025, 6, 5, tzinfo=UTC).timestamp())
    with sandbox() as server:
        running = ask(server, date=today)["data"]
        server.behaviour = Behaviour(running=False)
        is_closed = ask(server, date=today)["data"]
        server.behaviour = Behaviour(unbegun=True)
        whole = ask(server, date=today)["data"]
    assert len(running) == 17
    assert 0 < running[16]["volume"] < BUSY.hour(datetime(2025, 6, 5, 16, tzinfo=UTC))[0]
    assert is_closed == running[:16]
    assert whole[:17] == running
    assert [record["volume"] for record in whole[17:]] == [0] * 7


def test_without_a_date_the_24_hours_before_now_come_to_the_second() -> None:
    with sandbox() as server, connected(server) as connection:
        connection.request("POST", METHOD, '{"clientKey":"k"}')
        answer = json.loads(connection.getresponse().read())
    assert [record["dateFrom"] for record in answer["data"]] == [
        int(NOW.timestamp()) - DAY + hour * HOUR for hour in range(24)
    ]


def test_a_future_date_gives_nothing() -> None:
    with sandbox() as server:
        assert ask(server, date=int(NOW.timestamp()) + DAY) == {"errorId": 0, "data": []}
        assert ask(server, date=10**18) == {"errorId": 0, "data": []}


def test_other_paths_are_methods_that_do_not_exist() -> None:
    with sandbox() as server:
        response, body = post(server, "/getBalance")
        assert server.requests[0].path == "/getBalance"
    assert response.status == 200
    assert json.loads(body)["errorCode"] == "ERROR_NO_SUCH_METHOD"
    assert json.loads(body)["errorId"] == 14


@pytest.mark.parametrize(
    "asked", [{"date": "1748822400"}, {"date": 1748822400.0}, {"queue": None}, {"softId": "7"}, {"until": 5}]
)
def test_a_mistyped_or_unknown_property_is_refused(asked: dict[str, object]) -> None:
    with sandbox() as server:
        assert code(server, **asked) == "ERROR_INCORRECT_REQUEST"


def test_the_page_for_people_says_how_to_point_the_program_at_it() -> None:
    with sandbox() as server, connected(server) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        page = response.read().decode()
        assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
        assert f"ANTICAPTCHA_API_URL={server.url}" in page
        assert server.requests == ()


# ---------------------------------------------------------------- keys and the log


def test_only_keys_that_exist_are_answered_and_none_is_ever_shown() -> None:
    behaviour = Behaviour(refused_keys=frozenset({"refused-secret"}))
    with sandbox(behaviour) as server:
        replies = [post(server, clientKey=key)[1] for key in ("fine-secret", "refused-secret", "", 7, None)]
        server.behaviour = Behaviour(accepted_keys=frozenset({"only-secret"}))
        replies += [post(server, clientKey=key)[1] for key in ("only-secret", "fine-secret")]
        log = server.requests
    assert [json.loads(body)["errorId"] for body in replies] == [0, 1, 1, 1, 1, 0, 1]
    assert json.loads(replies[1])["errorCode"] == "ERROR_KEY_DOES_NOT_EXIST"
    assert [request.key_ok for request in log] == [True, False, False, False, False, True, False]
    assert "secret" not in repr(log) + repr(behaviour) + repr(server.behaviour) + repr(replies)


def test_the_log_tells_what_was_asked_in_order() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.HTML_502, numbers=(2,))) as server:
        post(server)
        post(server, queue=QUEUE, softId=BUSY.apps[1], ip="192.0.2.1")
        one, two = server.requests
    assert (one.at, one.date, one.queue, one.soft_id, one.ip, one.fault, one.status) == (
        NOW,
        START,
        None,
        None,
        None,
        None,
        200,
    )
    assert (two.queue, two.soft_id, two.ip, two.fault, two.status) == (
        QUEUE,
        BUSY.apps[1],
        "192.0.2.1",
        FaultKind.HTML_502,
        502,
    )


# ---------------------------------------------------------------- behaviours


@pytest.mark.parametrize(("idle", "count"), [("zero", 24), ("omit", 12)])
def test_idle_hours_come_as_zeros_or_are_left_out(idle: Any, count: int) -> None:
    dataset = Dataset.busy(begins=DAY_START.date())
    with sandbox(Behaviour(idle=idle), dataset=dataset) as server:
        _, body = post(server, date=START - 12 * HOUR)
    records = json.loads(body)["data"]
    assert len(records) == count
    assert body.count(b'"volume":0,"money":0}') == count - 12


@pytest.mark.parametrize("buckets", [23, 24, 25])
def test_an_answer_spans_as_many_buckets_as_chosen(buckets: Any) -> None:
    with sandbox(Behaviour(buckets=buckets)) as server:
        records = ask(server)["data"]
    assert [record["dateFrom"] for record in records] == [START + hour * HOUR for hour in range(buckets)]


def test_numbers_are_numbers_strings_or_noisy_and_mean_the_same() -> None:
    dataset = Dataset(queues=1, idle_hours=0, idle_weeks=0, tasks_per_hour=700)
    with sandbox(dataset=dataset) as server:
        _, plain = post(server)
        server.behaviour = Behaviour(numbers="string")
        _, strings = post(server)
        server.behaviour = Behaviour(numbers="noise")
        _, noisy = post(server)
    exact = [record["money"] for record in json.loads(plain, parse_float=Decimal)["data"]]
    assert [Decimal(record["money"]) for record in json.loads(strings)["data"]] == exact
    assert all(isinstance(record["volume"], str) for record in json.loads(strings)["data"])
    noise = [record["money"] for record in json.loads(noisy, parse_float=Decimal)["data"]]
    assert noise != exact
    assert [money.quantize(Decimal("0.000000001")) for money in noise] == exact
    assert re.search(rb'"money":\d\.\d+e-\d', noisy)
    assert re.search(rb'"money":\d\.\d{16}\D', noisy)


def test_a_list_can_come_as_an_object() -> None:
    with sandbox() as server:
        listed = ask(server)["data"]
        server.behaviour = Behaviour(listed="object")
        assert ask(server)["data"] == {str(place): record for place, record in enumerate(listed)}


def test_an_unknown_queue_gives_an_error_zeros_or_the_totals() -> None:
    with sandbox() as server:
        totals = ask(server)["data"]
        assert code(server, queue="no such queue") == "ERROR_INCORRECT_QUEUE"
        server.behaviour = Behaviour(unknown_queue="zeros")
        assert [record["volume"] for record in ask(server, queue="no such queue")["data"]] == [0] * 24
        server.behaviour = Behaviour(unknown_queue="totals")
        assert ask(server, queue="no such queue")["data"] == totals


STRANGERS = [("softId", 5, "foreign_app", "error"), ("ip", "203.0.113.9", "foreign_ip", "zeros")]


@pytest.mark.parametrize(("series", "stranger", "told", "unless_told"), STRANGERS)
def test_a_foreign_app_or_ip_is_denied_spends_nothing_or_is_not_heard(
    series: str, stranger: object, told: str, unless_told: str
) -> None:
    with sandbox() as server:
        totals = ask(server)["data"]
        silence = [record | {"volume": 0, "money": 0} for record in totals]
        answers: dict[str, object] = {
            "zeros": {"errorId": 0, "data": silence},
            "totals": {"errorId": 0, "data": totals},
        }
        assert getattr(server.behaviour, told) == unless_told
        for kind, answer in answers.items():
            server.behaviour = Behaviour(**{told: kind})  # type: ignore[arg-type]  # its literals, from the table above
            assert ask(server, **{series: stranger}) == answer
        server.behaviour = Behaviour(**{told: "error"})  # type: ignore[arg-type]  # the same
        assert code(server, **{series: stranger}) == "ERROR_ACCESS_DENIED"


def test_what_is_not_heard_leaves_the_other_filters_of_its_request() -> None:
    with sandbox(Behaviour(foreign_app="totals", foreign_ip="totals", unknown_queue="totals")) as server:
        ip, app = {"ip": BUSY.ips[1]}, {"softId": BUSY.apps[1]}
        assert ask(server, softId=5, **ip) == ask(server, queue="no such queue", **ip) == ask(server, **ip)
        assert ask(server, ip="203.0.113.9", **app) == ask(server, **app) != ask(server)


Hours = list[tuple[int, Decimal]]


def hours(server: Sandbox, **asked: object) -> Hours:
    return [(record["volume"], record["money"]) for record in ask(server, **asked)["data"]]


def added(*parts: Hours) -> Hours:
    return [
        (sum(volume for volume, _ in hour), sum((money for _, money in hour), Decimal(0)))
        for hour in zip(*parts, strict=True)
    ]


def unlisted_part(queue: Hours, percent: int) -> Hours:
    """What is left of a queue's hours when the listed members have rounded their part of the tasks and of the millionths down."""
    listed = 100 - percent
    cent = Decimal("0.000001")
    return [
        (volume - volume * listed // 100, money - (money * listed / 100).quantize(cent, rounding=ROUND_FLOOR))
        for volume, money in queue
    ]


@pytest.mark.parametrize("percent", [0, 10, 100])
@pytest.mark.parametrize(("series", "members"), [("softId", BUSY.apps), ("ip", BUSY.ips)])
@pytest.mark.parametrize("day", [START, int(NOW.timestamp()) // DAY * DAY], ids=["closed", "running"])
def test_the_listed_apps_or_ips_and_the_unlisted_part_are_the_total_in_every_hour(
    series: str, members: tuple[object, ...], percent: int, day: int
) -> None:
    with sandbox(dataset=replace(BUSY, unlisted=percent)) as server:
        total = hours(server, date=day)
        listed = [hours(server, date=day, **{series: member}) for member in members]
        unlisted = [unlisted_part(hours(server, date=day, queue=queue), percent) for queue in BUSY.names]
    assert len(total) in (24, 17)
    assert added(*listed, *unlisted) == total
    assert all(volume >= 0 and money >= 0 for hour in listed for volume, money in hour)
    assert (added(*listed) == total) is (percent == 0)


def test_an_off_hour_date_is_snapped_or_shifts_every_bucket() -> None:
    with sandbox() as server:
        whole = ask(server)["data"]
        assert ask(server, date=START + 900)["data"] == whole
        server.behaviour = Behaviour(off_hour="shift")
        shifted = ask(server, date=START + 900)["data"]
    assert [record["dateFrom"] for record in shifted] == [START + 900 + hour * HOUR for hour in range(24)]
    expected = whole[0]["volume"] * Decimal("0.75") + whole[1]["volume"] * Decimal("0.25")
    assert abs(shifted[0]["volume"] - expected) <= 1


def test_a_grid_beside_the_hour_moves_every_bucket_and_the_books_with_it() -> None:
    with sandbox(Behaviour(grid_seconds=-900)) as server:
        records = ask(server, queue=QUEUE)["data"]
        today = ask(server, date=int(NOW.timestamp()) // DAY * DAY)["data"]
        expected_rows = [
            (int(hour.timestamp()), volume, money)
            for queue, hour, volume, money in server.expected_rows(date(2025, 6, 2), date(2025, 6, 2))
            if queue == QUEUE
        ]
    assert [record["dateFrom"] for record in records] == [START - 900 + hour * HOUR for hour in range(24)]
    assert [(record["dateFrom"], record["volume"], record["money"]) for record in records] == expected_rows
    assert today[-1]["dateFrom"] == int(NOW.timestamp()) - 45 * 60


def test_beyond_the_retention_there_is_nothing() -> None:
    with sandbox(Behaviour(retention_days=30)) as server:
        assert ask(server, date=START - 40 * DAY)["data"] == []
        assert len(ask(server)["data"]) == 24


def test_a_record_can_come_twice_identical_or_not() -> None:
    with sandbox(Behaviour(duplicates="identical")) as server:
        identical = ask(server)["data"]
        server.behaviour = Behaviour(duplicates="differing")
        differing = ask(server)["data"]
    assert len(identical) == len(differing) == 25
    assert identical[12] == identical[13] == differing[13]
    assert differing[12]["dateFrom"] == differing[13]["dateFrom"]
    assert differing[12]["volume"] < differing[13]["volume"]


def test_the_date_header_can_be_skewed() -> None:
    with sandbox(Behaviour(date_skew_seconds=-600)) as server:
        header = post(server)[0].getheader("Date") or ""
    assert (NOW - parsedate_to_datetime(header)).total_seconds() == 600


def test_latency_delays_an_answer_and_not_its_neighbours() -> None:
    with sandbox(Behaviour(latency_seconds=0.4)) as server:
        begun = time.monotonic()
        threads = [threading.Thread(target=post, args=(server,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.monotonic() - begun
        assert len(server.requests) == 5
    assert 0.4 <= taken < 5 * 0.4


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
def test_errors_of_the_api_come_in_the_body_with_status_200(kind: FaultKind, error_id: int, error_code: str) -> None:
    with sandbox(LIKELIEST, Fault(kind)) as server:
        response, body = post(server)
    assert response.status == 200
    assert (json.loads(body)["errorId"], json.loads(body)["errorCode"]) == (error_id, error_code)


@pytest.mark.parametrize(
    ("kind", "status"),
    [(FaultKind.HTML, 200), (FaultKind.HTML_500, 500), (FaultKind.HTML_502, 502), (FaultKind.HTML_503, 503)],
)
def test_a_proxy_can_answer_with_a_page(kind: FaultKind, status: int) -> None:
    with sandbox(LIKELIEST, Fault(kind)) as server:
        response, body = post(server)
    assert response.status == status
    assert (response.getheader("Content-Type") or "").startswith("text/html")
    assert body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("text", ["3", "Thu, 05 Jun 2025 16:31:00 GMT", "99999999999"])
def test_a_429_carries_the_retry_after_it_was_given(text: str) -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.RETRY_AFTER, retry_after=text)) as server:
        response, _ = post(server)
    assert (response.status, response.getheader("Retry-After")) == (429, text)


def test_a_redirect_points_elsewhere_on_this_server_where_a_follower_is_noticed() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.REDIRECT)) as server:
        response, _ = post(server)
        assert (response.status, response.getheader("Location")) == (302, "/elsewhere")
        with connected(server) as connection:
            connection.request("GET", "/elsewhere")
            assert json.loads(connection.getresponse().read())["errorCode"] == "ERROR_NO_SUCH_METHOD"
        assert [request.path for request in server.requests] == [METHOD, "/elsewhere"]


def test_an_empty_body_has_status_200() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.EMPTY)) as server:
        response, body = post(server)
    assert (response.status, body) == (200, b"")


def test_a_cut_body_is_as_long_as_it_says_and_no_json() -> None:
    with sandbox() as server:
        _, whole = post(server)
        server.faults = (Fault(FaultKind.CUT),)
        response, body = post(server)
    assert int(response.getheader("Content-Length") or 0) == len(body) == len(whole) // 2
    assert whole.startswith(body)


def test_a_half_sent_body_ends_before_its_length() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.HALF_SENT)) as server, pytest.raises(http.client.IncompleteRead) as broken:
        post(server)
    assert broken.value.expected


def test_a_reset_connection_answers_nothing() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.RESET)) as server:
        with pytest.raises(ConnectionResetError):
            raw(server)
        assert server.requests[0].status is None


def test_a_hang_is_silent_for_its_time() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.HANG, seconds=60)) as server:
        with connected(server, timeout=0.2) as connection:
            connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
            with pytest.raises(TimeoutError):
                connection.getresponse()
        server.faults = (Fault(FaultKind.HANG, seconds=0.2),)
        begun = time.monotonic()
        assert ask(server)["errorId"] == 0
        assert time.monotonic() - begun >= 0.2


def test_a_slow_drip_brings_the_whole_body_in_small_pieces() -> None:
    with sandbox() as server:
        whole = ask(server)
        server.faults = (Fault(FaultKind.SLOW_DRIP, seconds=0.3),)
        begun = time.monotonic()
        assert ask(server) == whole
        assert time.monotonic() - begun >= 0.3


def test_an_endless_body_goes_on_until_its_reader_leaves() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.ENDLESS)) as server, connected(server) as connection:
        connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
        response = connection.getresponse()
        assert response.getheader("Content-Length") is None
        assert len(response.read(20_000_000)) == 20_000_000
        response.close()


def test_one_record_can_be_spoiled_and_the_rest_stay() -> None:
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


def test_the_vendors_own_page_is_no_json_and_its_example_is() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.VENDOR_PAGE)) as server:
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


def test_a_success_can_be_oddly_dressed() -> None:
    with sandbox(LIKELIEST, Fault(FaultKind.ERROR_ID_STRING)) as server:
        assert ask(server)["errorId"] == "0"
        server.faults = (Fault(FaultKind.NULL_DATA),)
        assert ask(server) == {"errorId": 0, "data": None}
        server.faults = (Fault(FaultKind.NO_DATA),)
        assert ask(server) == {"errorId": 0}


def test_every_kind_of_fault_has_its_test_here() -> None:
    text = Path(__file__).read_text(encoding="utf-8")
    assert [kind for kind in FaultKind if f"FaultKind.{kind.name}" not in text] == []


def test_an_app_or_ip_can_be_refused_from_now_on_and_its_neighbours_stay() -> None:
    with sandbox() as server:
        for series, (one, other, *_), fault in (
            ("softId", BUSY.apps, Fault(FaultKind.ACCESS_DENIED, soft_ids=(BUSY.apps[0],))),
            ("ip", BUSY.ips, Fault(FaultKind.ACCESS_DENIED, ips=(BUSY.ips[0],))),
        ):
            server.faults = ()
            assert ask(server, **{series: one})["errorId"] == 0
            server.faults = (fault,)
            assert [code(server, **{series: one}) for _ in range(2)] == ["ERROR_ACCESS_DENIED"] * 2
            assert ask(server, **{series: other})["errorId"] == ask(server)["errorId"] == 0


def test_faults_strike_by_number_day_filter_and_attempt() -> None:
    def struck(server: Sandbox, **asked: object) -> bool:
        post(server, METHOD, **asked)
        return server.requests[-1].fault is not None

    with sandbox(LIKELIEST, Fault(FaultKind.EMPTY, numbers=(2, 3))) as server:
        assert [struck(server) for _ in range(4)] == [False, True, True, False]
        server.faults = (Fault(FaultKind.EMPTY, days=(date(2025, 6, 2),), queues=(None,)),)
        assert [struck(server), struck(server, queue=QUEUE), struck(server, date=START - DAY)] == [True, False, False]
        server.faults = (Fault(FaultKind.EMPTY, queues=(QUEUE,)),)
        assert [struck(server), struck(server, queue=QUEUE)] == [False, True]
        server.faults = (Fault(FaultKind.EMPTY, queues=(None,), soft_ids=(None,), ips=(None,)),)
        assert [struck(server), struck(server, softId=BUSY.apps[0]), struck(server, ip=BUSY.ips[0])] == [
            True,
            False,
            False,
        ]
        server.faults = (Fault(FaultKind.EMPTY, attempts=(1,)),)
        assert [struck(server), struck(server), struck(server, queue=QUEUE)] == [True, False, True]
        server.faults = (Fault(FaultKind.EMPTY, attempts=(1,)),)
        assert struck(server)


def test_a_rate_strikes_its_part_and_the_same_requests_every_time() -> None:
    def struck() -> list[int]:
        with sandbox(LIKELIEST, Fault(FaultKind.EMPTY, rate=0.3)) as server, connected(server) as connection:
            for place in range(200):
                connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START - place * DAY}))
                connection.getresponse().read()
            return [place for place, request in enumerate(server.requests) if request.fault]

    first = struck()
    assert 35 < len(first) < 85
    assert struck() == first


# ---------------------------------------------------------------- the server


def test_it_listens_on_loopback_alone_and_keeps_a_connection() -> None:
    with sandbox() as server, connected(server) as connection:
        assert server.url.startswith("http://127.0.0.1:")
        connection.connect()
        kept = connection.sock
        for _ in range(3):
            connection.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
            assert connection.getresponse().read()
            assert connection.sock is kept


@pytest.mark.parametrize(
    "fault", [Fault(FaultKind.HANG, seconds=60), Fault(FaultKind.SLOW_DRIP, seconds=60), Fault(FaultKind.ENDLESS)]
)
def test_it_closes_at_once_whatever_its_connections_do_and_frees_the_port(fault: Fault) -> None:
    with sandbox(Behaviour(), fault) as server, connected(server) as idle, connected(server) as busy:
        port = urlsplit(server.url).port or 0
        idle.connect()
        busy.request("POST", METHOD, json.dumps({"clientKey": "k", "date": START}))
        while not server.requests:
            Clock().sleep(0.01)
        begun = time.monotonic()
        server.__exit__(None, None, None)
        assert time.monotonic() - begun < 10
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        server.__enter__()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_served_to_people_it_ends_cleanly_on_a_signal(number: signal.Signals) -> None:
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
