import json
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal

import pytest

from etl.extract import protocol
from etl.models import TOTAL, Dimension, ErrorScope, SeriesKey, Window, queue
from etl.responses import ApiError, InvalidResponse, RawRecord, RegularHours, SuccessPayload
from etl.secret import Secret

DAY = date(2019, 2, 19)
KEY = Secret("0123456789abcdef0123456789abcdef")
VENDOR = (
    '{"errorId":0,"data":[{"dateFrom":1550533500,"dateTill":1550537099,"volume":1899,"money":7.495948},'
    '{"dateFrom":1550537100,"dateTill":1550540699,"volume":2217,"money":7.861741},'
    "%s"
    '{"dateFrom":1550612700,"dateTill":1550616299,"volume":2156,"money":7.827058}]}'
)


def window(series: SeriesKey = TOTAL) -> Window:
    return Window.whole_day("default", series, DAY)


def records(content: bytes) -> tuple[RawRecord, ...]:
    assert isinstance(protocol.parse_response(200, content), SuccessPayload)
    return protocol.raw_records(content)


def code(status: int, content: bytes, location: str = "") -> str:
    reply = protocol.parse_response(status, content, location)
    assert isinstance(reply, InvalidResponse), reply
    assert reply.reason.isprintable()
    assert len(reply.reason) < 400
    return reply.code


# ---------------------------------------------------------------- window → body


@pytest.mark.parametrize(
    ("series", "extra"),
    [
        (TOTAL, {}),
        (queue("Recaptcha Proxyless"), {"queue": "Recaptcha Proxyless"}),
        (SeriesKey(Dimension.APP, "867"), {"softId": 867}),
        (SeriesKey(Dimension.IP, "192.0.2.7"), {"ip": "192.0.2.7"}),
    ],
)
def test_a_request_body_has_the_key_the_hour_and_the_member(series: SeriesKey, extra: dict[str, object]) -> None:
    assert json.loads(protocol.encode_request(window(series), KEY)) == {
        "clientKey": KEY.get_secret_value(),
        "date": 1550534400,
        **extra,
    }


def test_an_unattributed_amount_is_never_requested() -> None:
    with pytest.raises(ValueError, match="cannot be requested"):
        protocol.encode_request(window(SeriesKey(Dimension.QUEUE)), KEY)


@pytest.mark.parametrize("off", [timedelta(seconds=1), timedelta(minutes=30), timedelta(microseconds=1)])
def test_a_window_that_starts_within_an_hour_cannot_be_requested(off: timedelta) -> None:
    start = datetime(2019, 2, 19, tzinfo=UTC) + off
    with pytest.raises(ValueError, match="whole UTC hour"):
        protocol.encode_request(Window("default", TOTAL, DAY, start, start + timedelta(hours=1)), KEY)


# ---------------------------------------------------------------- records


def test_the_three_records_of_the_vendors_example_are_read_exactly() -> None:
    first, _, last = records((VENDOR % "").encode())
    assert first == RawRecord(
        1550533500,
        1550537099,
        1899,
        Decimal("7.495948"),
        '{"dateFrom":1550533500,"dateTill":1550537099,"volume":1899,"money":7.495948}',
    )
    assert (last.date_from, last.money) == (1550612700, Decimal("7.827058"))


def test_the_vendors_example_as_printed_is_not_json() -> None:
    assert code(200, (VENDOR % ".....").encode()) == "not_json"


@pytest.mark.parametrize("data", ['"data":[]', '"data":null', '"data":{}', '"error":null'])
def test_missing_data_means_no_records(data: str) -> None:
    assert records(b'{"errorId":"0",' + data.encode() + b"}") == ()


def test_a_php_list_sent_as_an_object_is_read_as_a_list() -> None:
    assert [r.volume for r in records(b'{"errorId":0,"data":{"0":{"volume":1},"2":{"volume":"2"}}}')] == [1, "2"]


def test_elements_that_are_not_objects_keep_their_raw_text() -> None:
    assert records(b'{"errorId":0,"data":[7.50,"x",null,[1.10]]}') == tuple(
        RawRecord(None, None, None, None, raw) for raw in ("7.50", '"x"', "null", "[1.10]")
    )


def test_raw_text_keeps_all_decimals_and_is_truncated_at_its_limit() -> None:
    (noisy,) = records(b'{"errorId":0, "data":[ {"money": 7.4959480000000003, "x": [true, null, "\\u0000"]} ]}')
    assert noisy.raw == '{"money":7.4959480000000003,"x":[true,null,"\\u0000"]}'
    assert noisy.money == Decimal("7.4959480000000003")
    (long,) = records(b'{"errorId":0,"data":["' + b"x" * 5000 + b'"]}')
    assert len(long.raw) == protocol.RAW_CHARS


def test_a_gigantic_number_affects_only_its_own_record() -> None:
    (record,) = records(b'{"errorId":0,"data":[{"volume":' + b"9" * 10_000 + b',"money":1e999999999}]}')
    assert record.volume == Decimal("9" * 10_000)
    assert record.money == Decimal("1e999999999")
    assert len(record.raw) <= protocol.RAW_CHARS


def test_a_byte_order_mark_is_ignored() -> None:
    assert records(b'\xef\xbb\xbf{"errorId":0,"data":[]}') == ()


# ---------------------------------------------------------------- the regular shape


def regular_hours(content: bytes, status: int = 200) -> RegularHours | None:
    reply = protocol.parse_response(status, content)
    return reply.regular if isinstance(reply, SuccessPayload) else None


FIRST = '{"dateFrom":1550534400,"dateTill":1550537999,"volume":1899,"money":7.495948}'
SECOND = '{"dateFrom":1550538000,"dateTill":1550538060,"volume":0,"money":-0.0000000025}'


def test_consecutive_hours_are_read_as_columns() -> None:
    content = f'{{"errorId":0,"data":[{FIRST}, {SECOND}]}}'.encode()
    assert protocol.parse_response(200, content) == SuccessPayload(
        (), RegularHours(1550534400, (1899, 0), (7_495_948_000, -2))
    )
    assert regular_hours(content, status=201) is None


def test_a_day_has_at_most_25_regular_hours() -> None:
    def day(hours: int) -> bytes:
        records = [
            FIRST.replace("1550534400", str(start)).replace("1550537999", str(start))
            for start in range(0, 3600 * hours, 3600)
        ]
        return f'{{"errorId":"0","data":[{",".join(records)}]}}'.encode()

    assert regular_hours(day(25)) == RegularHours(0, (1899,) * 25, (7_495_948_000,) * 25)
    assert regular_hours(day(26)) is None
    assert len(records(day(26))) == 26


@pytest.mark.parametrize(
    "content",
    [
        '{"errorId":0,"data":[]}',
        '{"errorId":0,"data":{"0":FIRST}}',
        '{"errorId":0,"data":[FIRST,FIRST]}',
        '{"errorId":0,"data":[SECOND,FIRST]}',
        '{"errorId":0,"data":[FIRST,{}]}',
        '{"errorId":0,"data":[FIRST],"status":"ready"}',
        '{"data":[FIRST],"errorId":0}',
        '{"errorId":0,"errorId":0,"data":[FIRST]}',
        '{"errorId":0.0,"data":[FIRST]}',
        '{"errorId":false,"data":[FIRST]}',
        '{"errorId":1,"data":[FIRST]}',
        '[["errorId",0],["data",[FIRST]]]',
        '{"errorId":0,"data":[[["dateFrom",0],["dateTill",0],["volume",0],["money",0]]]}',
        '{"errorId":0,"data":{"dateFrom":0,"dateTill":0,"volume":0,"money":0}}',
        '\ufeff{"errorId":0,"data":[FIRST]}',
        '{"errorId":0,"data":[FIRST]}x',
    ],
)
def test_a_reply_of_another_shape_has_no_regular_hours(content: str) -> None:
    assert regular_hours(content.replace("FIRST", FIRST).replace("SECOND", SECOND).encode()) is None


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"dateFrom":1550534400,"dateTill":1550537999', '"dateFrom":-1,"dateTill":0'),
        ('"dateFrom":1550534400', '"dateFrom":"1550534400"'),
        ('"dateTill":1550537999', '"dateTill":1550538000'),
        ('"dateTill":1550537999', '"dateTill":1550534399'),
        ('"dateTill":1550537999', '"dateTill":1550537999.0'),
        ("1899", "-1"),
        ("1899", "true"),
        ("1899", "9223372036854775808"),
        ("7.495948", '"7.495948"'),
        ("7.495948", "null"),
        ("7.495948", "NaN"),
        ("7.495948", "999999999.9999999995"),
        ("7.495948", "1e99999999999999999999"),
        ("7.495948", '7.495948,"extra":1'),
        ("7.495948", '7.495948,"money":7.495948'),
        (',"money":7.495948', ""),
        ('"volume":1899,"money":7.495948', '"money":1899,"volume":7'),
        ('"volume"', '"count"'),
    ],
)
def test_a_record_with_anything_else_has_no_regular_hours(before: str, after: str) -> None:
    content = f'{{"errorId":0,"data":[{FIRST}]}}'
    assert regular_hours(content.encode()) is not None
    assert regular_hours(content.replace(before, after).encode()) is None


def test_hours_that_no_date_can_have_are_not_regular() -> None:
    last = '{"dateFrom":253402300799,"dateTill":253402304398,"volume":0,"money":0}'
    assert regular_hours(f'{{"errorId":0,"data":[{last}]}}'.encode()) == RegularHours(253402300799, (0,), (0,))
    assert regular_hours(f'{{"errorId":0,"data":[{last.replace("799", "800")}]}}'.encode()) is None


# ---------------------------------------------------------------- API errors


@pytest.mark.parametrize(
    ("name", "scope"),
    [
        ("ERROR_KEY_DOES_NOT_EXIST", ErrorScope.ACCOUNT),
        ("ERROR_IP_NOT_ALLOWED", ErrorScope.ACCOUNT),
        ("ERROR_NO_SUCH_METHOD", ErrorScope.ACCOUNT),
        ("ERROR_IP_BLOCKED", ErrorScope.ACCOUNT),
        ("ERROR_ACCOUNT_SUSPENDED", ErrorScope.ACCOUNT),
        ("ERROR_ZERO_BALANCE", ErrorScope.ACCOUNT),
        ("ERROR_ACCESS_DENIED", ErrorScope.SERIES),
        ("ERROR_NO_SLOT_AVAILABLE", ErrorScope.TRANSIENT),
        ("ERROR_NEVER_SEEN", ErrorScope.WINDOW),
    ],
)
def test_each_error_code_has_a_scope(name: str, scope: ErrorScope) -> None:
    content = json.dumps({"errorId": 12, "errorCode": name, "errorDescription": "why"}).encode()
    assert protocol.parse_response(200, content) == ApiError(name, "why", scope)
    assert (name in protocol.ACCOUNT_ERRORS) is (scope is ErrorScope.ACCOUNT)


@pytest.mark.parametrize("status", [200, 401, 404, 429, 500])
def test_the_error_in_the_body_wins_over_the_http_status(status: int) -> None:
    content = b'{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST","errorDescription":"no\\u0000such\\nkey"}'
    assert protocol.parse_response(status, content) == ApiError(
        "ERROR_KEY_DOES_NOT_EXIST", "no such key", ErrorScope.ACCOUNT
    )


@pytest.mark.parametrize("error_id", ["1", '"1"', "false", "null", "0.5", '""', "[]", "-1", '"00"'])
def test_any_error_id_except_zero_is_an_error(error_id: str) -> None:
    reply = protocol.parse_response(200, b'{"errorId":' + error_id.encode() + b',"data":[]}')
    assert isinstance(reply, ApiError)
    assert (reply.code, reply.scope) == ("ERROR_WITHOUT_CODE", ErrorScope.WINDOW)
    assert reply.description


@pytest.mark.parametrize("name", ["false", "true", "null", "[]", "{}", '""', '" "', '"\\u0000"', '"\\ud800"'])
def test_an_error_code_that_is_not_text_is_replaced(name: str) -> None:
    reply = protocol.parse_response(200, b'{"errorId":false,"errorCode":' + name.encode() + b',"errorDescription":[1]}')
    assert reply == ApiError("ERROR_WITHOUT_CODE", "errorId false", ErrorScope.WINDOW)


@pytest.mark.parametrize("length", [64, 65])
def test_an_error_code_has_at_most_64_characters(length: int) -> None:
    reply = protocol.parse_response(200, b'{"errorId":1,"errorCode":"' + b"E" * length + b'"}')
    assert isinstance(reply, ApiError)
    assert reply.code == "E" * 64


# ---------------------------------------------------------------- invalid responses


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "empty_body"),
        (b"\xef\xbb\xbf \r\n", "empty_body"),
        (b"\n<!DOCTYPE html><title>maintenance</title>", "html"),
        (b'{"errorId":0,"data":[{"volume":18', "not_json"),
        (b'{"errorId":0,"data":[]}{}', "not_json"),
        (b"[]", "no_error_id"),
        (b'"errorId"', "no_error_id"),
        (b'{"data":[]}', "no_error_id"),
        (b'{"errorId":0,"data":[{"money":NaN}]}', "not_a_number"),
        (b'{"errorId":0,"data":[{"money":-Infinity}]}', "not_a_number"),
        (b'{"errorId":0,"data":[{"money":1e99999999999999999999}]}', "number_out_of_range"),
        (b'{"errorId":0,"data":[{"money":1,"money":2}]}', "duplicate_key"),
        (b'{"errorId":1,"errorId":0}', "duplicate_key"),
        (b'{"errorId":0,"data":"none"}', "data_not_a_list"),
        (b'{"errorId":0,"data":[' + b"1," * 10_000 + b"1]}", "too_many_records"),
        (b'{"errorId":0,"data":' + b"[" * 100_000, "too_deep"),
        (b"\x1f\x8b\x08\x00\xff\xfe", "not_json"),
        ('{"errorId":0}'.encode("utf-16"), "not_json"),
    ],
)
def test_each_kind_of_invalid_response_has_a_code(content: bytes, expected: str) -> None:
    assert code(200, content) == expected


def test_the_nesting_limit_does_not_depend_on_the_callers_stack_depth() -> None:
    def nested(depth: int) -> bytes:
        return b'{"errorId":0,"data":[' + b"[" * (depth - 2) + b"]" * (depth - 2) + b"]}"

    def code_far_down(content: bytes, frames: int) -> str:
        return code_far_down(content, frames - 1) if frames else code(200, content)

    (record,) = records(nested(32))
    assert record.raw == "[" * 30 + "]" * 30
    for depth in (33, 300, 900, 1100):
        assert code_far_down(nested(depth), 0) == code_far_down(nested(depth), 500) == "too_deep"
    assert code(200, b'{"errorId":0,"data":' + b'{"a":' * 40 + b"1" + b"}" * 41) == "too_deep"


@pytest.mark.parametrize(
    ("status", "content"), [(502, b"<html>bad gateway</html>"), (403, b""), (500, b'{"message":"x"}'), (204, b"")]
)
def test_an_http_error_without_an_api_body_has_its_status_as_code(status: int, content: bytes) -> None:
    assert code(status, content) == f"http_{status}"


def test_the_reason_shows_the_start_of_the_body_in_one_printable_line() -> None:
    reply = protocol.parse_response(200, b"\x1b[31mWarning:\x00\n mysql\xff " + b"x" * 500)
    assert isinstance(reply, InvalidResponse)
    assert "[31mWarning: mysql" in reply.reason
    assert "\x1b" not in reply.reason
    assert "x" * 80 not in reply.reason


@pytest.mark.parametrize(
    ("location", "shown"),
    [
        ("https://user:pw@evil.example/path?clientKey=1", "evil.example"),
        ("/elsewhere", "no host"),
        ("http://[bad", "no host"),
        ("http://\u200b/", "no host"),
    ],
)
def test_the_reason_of_a_redirect_names_only_the_target_host(location: str, shown: str) -> None:
    reply = protocol.parse_response(302, b'{"errorId":0,"data":[]}', location)
    assert reply == InvalidResponse("redirect", f"HTTP 302 points to {shown}; redirects are not followed")


@pytest.mark.parametrize(("status", "is_redirect"), [(299, False), (300, True), (399, True), (400, False)])
def test_every_status_from_300_to_399_is_a_redirect(status: int, is_redirect: bool) -> None:
    reply = protocol.parse_response(status, b"")
    assert isinstance(reply, InvalidResponse)
    assert (reply.code == "redirect") is is_redirect


@pytest.mark.parametrize("content", [b"[]", b"[1]", b'["errorId"]', b'"errorId"', b"1", b"null", b"", b"{}"])
def test_a_body_that_is_no_object_has_no_records(content: bytes) -> None:
    assert protocol.raw_records(content) == ()


def test_a_description_has_at_most_300_characters() -> None:
    for length, shown in ((300, 300), (301, 300)):
        content = json.dumps({"errorId": 1, "errorCode": "ERROR_X", "errorDescription": "d" * length}).encode()
        reply = protocol.parse_response(200, content)
        assert isinstance(reply, ApiError)
        assert len(reply.description) <= shown
