"""The sandbox over HTTP: the documented method and every behaviour."""

import json
import re
import threading
import time
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import ROUND_FLOOR, Decimal
from email.utils import parsedate_to_datetime
from typing import Any

import pytest

from etl.sandbox.behaviour import METHOD, Behaviour, Fault, FaultKind
from etl.sandbox.dataset import DAY, HOUR, Dataset
from etl.sandbox.server import Sandbox
from tests.integration.sandbox_client import (
    DATASET,
    DAY_START,
    DEFAULTS,
    NOW,
    QUEUE,
    START,
    ask,
    code,
    connected,
    post,
    sandbox,
)

# ---------------------------------------------------------------- the method as documented


def test_day_has_24_records_equal_to_the_dataset() -> None:
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
        for queue, hour, volume, money in DATASET.expected_rows(DAY_START.date(), DAY_START.date(), NOW)
        if queue == QUEUE
    ]
    assert [(record["dateFrom"], record["volume"], record["money"]) for record in answer["data"]] == expected_rows


def test_apps_and_ips_return_their_part_of_the_total() -> None:
    with sandbox() as server:
        total = ask(server)["data"][12]
        app = ask(server, softId=DATASET.apps[0])["data"][12]
        ip = ask(server, ip=DATASET.ips[0])["data"][12]
        unknown = ask(server, ip="203.0.113.9")["data"][12]
    assert 0 < app["money"] < total["money"]
    assert 0 < ip["money"] < total["money"]
    assert app["money"] != ip["money"]
    assert unknown["money"] == unknown["volume"] == 0


def test_today_ends_with_the_elapsed_part_of_the_current_hour() -> None:
    today = int(datetime(2025, 6, 5, tzinfo=UTC).timestamp())
    with sandbox() as server:
        running = ask(server, date=today)["data"]
        server.behaviour = Behaviour(running=False)
        is_closed = ask(server, date=today)["data"]
        server.behaviour = Behaviour(unbegun=True)
        whole = ask(server, date=today)["data"]
    assert len(running) == 17
    assert 0 < running[16]["volume"] < DATASET.hour(datetime(2025, 6, 5, 16, tzinfo=UTC))[0]
    assert is_closed == running[:16]
    assert whole[:17] == running
    assert [record["volume"] for record in whole[17:]] == [0] * 7


def test_without_a_date_the_last_24_hours_are_returned_to_the_second() -> None:
    with sandbox() as server, connected(server) as connection:
        connection.request("POST", METHOD, '{"clientKey":"k"}')
        answer = json.loads(connection.getresponse().read())
    assert [record["dateFrom"] for record in answer["data"]] == [
        int(NOW.timestamp()) - DAY + hour * HOUR for hour in range(24)
    ]


def test_future_date_returns_no_records() -> None:
    with sandbox() as server:
        assert ask(server, date=int(NOW.timestamp()) + DAY) == {"errorId": 0, "data": []}
        assert ask(server, date=10**18) == {"errorId": 0, "data": []}


def test_other_paths_return_no_such_method() -> None:
    with sandbox() as server:
        response, body = post(server, "/getTaskResult")
        assert server.requests[0].path == "/getTaskResult"
    assert response.status == 200
    assert json.loads(body)["errorCode"] == "ERROR_NO_SUCH_METHOD"
    assert json.loads(body)["errorId"] == 14


@pytest.mark.parametrize(
    "fields", [{"date": "1748822400"}, {"date": 1748822400.0}, {"queue": None}, {"softId": "7"}, {"until": 5}]
)
def test_mistyped_or_unknown_property_is_rejected(fields: dict[str, object]) -> None:
    with sandbox() as server:
        assert code(server, **fields) == "ERROR_INCORRECT_REQUEST"


def test_welcome_page_explains_how_to_connect() -> None:
    with sandbox() as server, connected(server) as connection:
        connection.request("GET", "/")
        response = connection.getresponse()
        page = response.read().decode()
        assert response.getheader("Content-Type") == "text/plain; charset=utf-8"
        assert f"ANTICAPTCHA_API_URL={server.url}" in page
        assert server.requests == ()


# ---------------------------------------------------------------- keys and the log


def test_only_existing_keys_are_accepted_and_none_is_shown() -> None:
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


def test_request_log_is_complete_and_in_order() -> None:
    with sandbox(DEFAULTS, Fault(FaultKind.HTML_502, numbers=(2,))) as server:
        post(server)
        post(server, queue=QUEUE, softId=DATASET.apps[1], ip="192.0.2.1")
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
        DATASET.apps[1],
        "192.0.2.1",
        FaultKind.HTML_502,
        502,
    )


# ---------------------------------------------------------------- behaviours


@pytest.mark.parametrize(("idle", "count"), [("zero", 24), ("omit", 12)])
def test_idle_hours_are_zeros_or_omitted(idle: Any, count: int) -> None:
    dataset = Dataset.always_active(begins=DAY_START.date())
    with sandbox(Behaviour(idle=idle), dataset=dataset) as server:
        _, body = post(server, date=START - 12 * HOUR)
    records = json.loads(body)["data"]
    assert len(records) == count
    assert body.count(b'"volume":0,"money":0}') == count - 12


@pytest.mark.parametrize("buckets", [23, 24, 25])
def test_response_has_the_chosen_number_of_buckets(buckets: Any) -> None:
    with sandbox(Behaviour(buckets=buckets)) as server:
        records = ask(server)["data"]
    assert [record["dateFrom"] for record in records] == [START + hour * HOUR for hour in range(buckets)]


def test_number_formats_have_the_same_values() -> None:
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


def test_data_can_be_an_object() -> None:
    with sandbox() as server:
        listed = ask(server)["data"]
        server.behaviour = Behaviour(listed="object")
        assert ask(server)["data"] == {str(index): record for index, record in enumerate(listed)}


def test_unknown_queue_returns_an_error_zeros_or_totals() -> None:
    with sandbox() as server:
        totals = ask(server)["data"]
        assert code(server, queue="no such queue") == "ERROR_INCORRECT_QUEUE"
        server.behaviour = Behaviour(unknown_queue="zeros")
        assert [record["volume"] for record in ask(server, queue="no such queue")["data"]] == [0] * 24
        server.behaviour = Behaviour(unknown_queue="totals")
        assert ask(server, queue="no such queue")["data"] == totals


UNKNOWN_MEMBERS = [("softId", 5, "foreign_app", "error"), ("ip", "203.0.113.9", "foreign_ip", "zeros")]


@pytest.mark.parametrize(("series", "unknown", "setting", "default"), UNKNOWN_MEMBERS)
def test_foreign_app_or_ip_is_denied_has_no_spend_or_is_ignored(
    series: str, unknown: object, setting: str, default: str
) -> None:
    with sandbox() as server:
        totals = ask(server)["data"]
        zeros = [record | {"volume": 0, "money": 0} for record in totals]
        answers: dict[str, object] = {
            "zeros": {"errorId": 0, "data": zeros},
            "totals": {"errorId": 0, "data": totals},
        }
        assert getattr(server.behaviour, setting) == default
        for kind, answer in answers.items():
            server.behaviour = Behaviour(**{setting: kind})  # type: ignore[arg-type]  # literals
            assert ask(server, **{series: unknown}) == answer
        server.behaviour = Behaviour(**{setting: "error"})  # type: ignore[arg-type]  # the same
        assert code(server, **{series: unknown}) == "ERROR_ACCESS_DENIED"


def test_ignored_member_leaves_the_other_parameters() -> None:
    with sandbox(Behaviour(foreign_app="totals", foreign_ip="totals", unknown_queue="totals")) as server:
        ip, app = {"ip": DATASET.ips[1]}, {"softId": DATASET.apps[1]}
        assert ask(server, softId=5, **ip) == ask(server, queue="no such queue", **ip) == ask(server, **ip)
        assert ask(server, ip="203.0.113.9", **app) == ask(server, **app) != ask(server)


Hours = list[tuple[int, Decimal]]


def hours(server: Sandbox, **fields: object) -> Hours:
    return [(record["volume"], record["money"]) for record in ask(server, **fields)["data"]]


def added(*parts: Hours) -> Hours:
    return [
        (sum(volume for volume, _ in hour), sum((money for _, money in hour), Decimal(0)))
        for hour in zip(*parts, strict=True)
    ]


def unlisted_part(queue: Hours, percent: int) -> Hours:
    """Return what remains of a queue's hours when the listed members' parts are rounded down."""
    listed = 100 - percent
    cent = Decimal("0.000001")
    return [
        (volume - volume * listed // 100, money - (money * listed / 100).quantize(cent, rounding=ROUND_FLOOR))
        for volume, money in queue
    ]


@pytest.mark.parametrize("percent", [0, 10, 100])
@pytest.mark.parametrize(("series", "members"), [("softId", DATASET.apps), ("ip", DATASET.ips)])
@pytest.mark.parametrize("day", [START, int(NOW.timestamp()) // DAY * DAY], ids=["closed", "running"])
def test_listed_and_unlisted_members_add_up_to_the_total_in_every_hour(
    series: str, members: tuple[object, ...], percent: int, day: int
) -> None:
    with sandbox(dataset=replace(DATASET, unlisted=percent)) as server:
        total = hours(server, date=day)
        listed = [hours(server, date=day, **{series: member}) for member in members]
        unlisted = [unlisted_part(hours(server, date=day, queue=queue), percent) for queue in DATASET.names]
    assert len(total) in (24, 17)
    assert added(*listed, *unlisted) == total
    assert all(volume >= 0 and money >= 0 for hour in listed for volume, money in hour)
    assert (added(*listed) == total) is (percent == 0)


def test_date_inside_an_hour_is_snapped_or_shifts_every_bucket() -> None:
    with sandbox() as server:
        whole = ask(server)["data"]
        assert ask(server, date=START + 900)["data"] == whole
        server.behaviour = Behaviour(off_hour="shift")
        shifted = ask(server, date=START + 900)["data"]
    assert [record["dateFrom"] for record in shifted] == [START + 900 + hour * HOUR for hour in range(24)]
    expected = whole[0]["volume"] * Decimal("0.75") + whole[1]["volume"] * Decimal("0.25")
    assert abs(shifted[0]["volume"] - expected) <= 1


def test_shifted_grid_moves_buckets_and_expected_rows() -> None:
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


def test_dates_older_than_the_retention_return_no_records() -> None:
    with sandbox(Behaviour(retention_days=30)) as server:
        assert ask(server, date=START - 40 * DAY)["data"] == []
        assert len(ask(server)["data"]) == 24


def test_one_record_can_be_duplicated_identical_or_different() -> None:
    with sandbox(Behaviour(duplicates="identical")) as server:
        identical = ask(server)["data"]
        server.behaviour = Behaviour(duplicates="differing")
        differing = ask(server)["data"]
    assert len(identical) == len(differing) == 25
    assert identical[12] == identical[13] == differing[13]
    assert differing[12]["dateFrom"] == differing[13]["dateFrom"]
    assert differing[12]["volume"] < differing[13]["volume"]


def test_date_header_can_be_skewed() -> None:
    with sandbox(Behaviour(date_skew_seconds=-600)) as server:
        header = post(server)[0].getheader("Date") or ""
    assert (NOW - parsedate_to_datetime(header)).total_seconds() == 600


def test_latency_delays_requests_in_parallel() -> None:
    with sandbox(Behaviour(latency_seconds=0.4)) as server:
        started = time.monotonic()
        threads = [threading.Thread(target=post, args=(server,)) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        taken = time.monotonic() - started
        assert len(server.requests) == 5
    assert 0.4 <= taken < 5 * 0.4
