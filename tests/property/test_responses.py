"""Parsing any bytes: no crash, and no number that was not in the response."""

import json
import random
from collections.abc import Callable
from datetime import UTC, date, datetime
from decimal import ROUND_HALF_EVEN, Context, Decimal
from itertools import chain, cycle

from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl import money
from etl.extract import protocol
from etl.models import DAY, HOUR, TOTAL, Outcome, Record, Rejection, Window
from etl.responses import ApiError, InvalidResponse, RawRecord, Response, SuccessPayload
from etl.transform import parse
from etl.transform.dedupe import deduplicate_hours
from etl.transform.parse import parse_snapshot
from tests.core import records_of

quick = settings(max_examples=300, deadline=None)

START = datetime(2026, 1, 1, tzinfo=UTC)
WINDOW = Window.whole_day("default", TOTAL, date(2026, 1, 1))
NINE = Decimal("1e-9")

amounts = st.decimals(min_value=Decimal(-999999999), max_value=Decimal(999999999), places=9)
volumes = st.integers(min_value=0, max_value=2**63 - 1)
days = st.dictionaries(st.integers(min_value=0, max_value=23), st.tuples(volumes, amounts)).map(
    lambda by_hour: tuple(
        Record(START + hour * HOUR, volume, amount) for hour, (volume, amount) in sorted(by_hour.items())
    )
)

GOOD_BODY = b'{"errorId":0,"data":[{"dateFrom":1767225600,"dateTill":1767229199,"volume":1899,"money":7.495948}]}'


WRONG_BYTES = sorted({*range(256)} - {*b"eE"})  # 18E9 would be a valid number


def response(content: bytes) -> Response:
    return Response(WINDOW, START + 2 * DAY, protocol.parse_response(200, content), 200, content)


# ---------------------------------------------------------------- any bytes


@quick
@given(st.sampled_from([200, 204, 302, 404, 500]), st.binary(max_size=300), st.text(max_size=30))
@example(200, b'{"errorId":0,"data":[' * 5000, "")
@example(200, b'{"errorId":0,"data":[{"money":' + b"9" * 5000 + b"}]}", "")
def test_any_bytes_give_a_result(status: int, content: bytes, location: str) -> None:
    reply = protocol.parse_response(status, content, location)
    assert isinstance(reply, SuccessPayload | ApiError | InvalidResponse)
    if isinstance(reply, InvalidResponse):
        assert reply.code
        assert reply.reason.isprintable()


@quick
@given(st.integers(min_value=0, max_value=len(GOOD_BODY) - 1))
def test_a_truncated_body_is_invalid(length: int) -> None:
    assert isinstance(protocol.parse_response(200, GOOD_BODY[:length]), InvalidResponse)


@quick
@given(st.integers(min_value=0, max_value=len(GOOD_BODY) - 1), st.sampled_from(WRONG_BYTES))
def test_one_wrong_byte_never_results_in_a_float(position: int, byte: int) -> None:
    broken = bytearray(GOOD_BODY)
    broken[position] = byte
    snapshot = parse_snapshot(response(bytes(broken)), 1, None)
    for record in records_of(snapshot):  # digits may differ, but there are no floats
        assert type(record.volume) is int
        assert type(record.money) is Decimal
        assert str(record.volume).encode() in broken


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["dateFrom", "dateTill", "volume", "money", "0"]), inner)
    ),
    max_leaves=12,
)


@quick
@given(json_values, st.sampled_from([None, 0, -900]))
def test_any_json_as_records_gives_a_snapshot(value: object, hour_offset: int | None) -> None:
    snapshot = parse_snapshot(response(json.dumps({"errorId": 0, "data": value}).encode()), 1, hour_offset)
    assert all(len(rejection.raw) <= protocol.RAW_CHARS for rejection in snapshot.rejections)
    assert all(record.volume >= 0 and record.money.as_tuple().exponent == -9 for record in records_of(snapshot))


# ---------------------------------------------------------------- every notation


def random_notation(record: Record, draw: random.Random) -> str:
    """Return a record as JSON in a random notation that the API uses or may use."""
    start_second = int(record.hour_start.timestamp())
    noise = draw.choice(["", "0", "0000000000003" if record.money >= 0 else "0000000000004"])
    amounts = [f"{record.money:f}", f"{record.money:f}{noise}", f"{record.money:.17e}"]
    fields = {
        "dateFrom": str(start_second),
        "dateTill": str(start_second + 3599),
        "volume": draw.choice([str(record.volume), f"{record.volume}.0"]),
        "money": draw.choice(amounts),
    }
    names = draw.sample(list(fields), len(fields))
    return (
        "{"
        + ", ".join(f'"{name}": ' + draw.choice(["{}", '"{}"', '" {} "']).format(fields[name]) for name in names)
        + "}"
    )


@quick
@given(days, st.randoms(use_true_random=False))
def test_records_are_read_exactly_in_every_notation(records: tuple[Record, ...], draw: random.Random) -> None:
    sent = [
        random_notation(record, draw) for record in (*records, *draw.sample(records, draw.randint(0, len(records))))
    ]
    draw.shuffle(sent)
    as_list = "[" + ",".join(sent) + "]"
    as_object = "{" + ",".join(f'"{number}":{text}' for number, text in enumerate(sent)) + "}"
    error_id, data = draw.choice(["0", '"0"']), draw.choice([as_list, as_object])
    content = f'{{"errorId":{error_id},"data":{data}}}'
    snapshot = parse_snapshot(response(content.encode()), 1, draw.choice([0, None]))
    assert (snapshot.outcome, records_of(snapshot), snapshot.rejections, snapshot.out_of_window) == (
        Outcome.SUCCESS,
        records,
        (),
        0,
    )


# ---------------------------------------------------------------- the regular shape

LAST_SECOND = 253_402_300_799

amount_texts = (
    amounts.map("{:f}".format)
    | st.decimals(min_value=Decimal(-999_999_999), max_value=Decimal(999_999_999), allow_nan=False).map("{:f}".format)
    | st.integers(-999_999_999, 999_999_999).map(str)
    | st.tuples(st.integers(-(10**8), 10**8), st.integers(-30, 0)).map("{0[0]}e{0[1]}".format)
    | st.integers(-(10**10), 10**10).map(lambda whole: f"0.{abs(whole):010}5")  # a tie, which rounds to even
)


@st.composite
def regular_fields(draw: st.DrawFn) -> list[list[tuple[str, str]]]:
    """The records of a regular reply, each as names and JSON texts."""
    count = draw(st.integers(1, 25))
    first = draw(st.just(1767225600) | st.integers(0, LAST_SECOND - 25 * 3600))
    values = draw(
        st.lists(st.tuples(st.just(3599) | st.integers(0, 3599), volumes, amount_texts), min_size=1, max_size=4)
    )
    return [
        [
            ("dateFrom", str(start)),
            ("dateTill", str(start + seconds)),
            ("volume", str(volume)),
            ("money", amount),
        ]
        for start, (seconds, volume, amount) in zip(
            range(first, first + 3600 * count, 3600), cycle(values), strict=False
        )
    ]


def written(records: list[list[tuple[str, str]]], error_id: str = "0", colon: str = ":", comma: str = ",") -> bytes:
    texts = ("{" + comma.join(f'"{name}"{colon}{text}' for name, text in fields) + "}" for fields in records)
    return f'{{"errorId"{colon}{error_id}{comma}"data"{colon}[{comma.join(texts)}]}}'.encode()


def by_regular_hours(content: bytes) -> list[Record | Rejection] | None:
    """The records as the reply has them in columns; None if it is not regular."""
    reply = protocol.parse_response(200, content)
    if not isinstance(reply, SuccessPayload) or reply.regular is None:
        return None
    assert reply.records == ()
    first = datetime.fromtimestamp(reply.regular.first_second, UTC)
    values = zip(reply.regular.volumes, reply.regular.nanodollars, strict=True)
    return [
        Record(first + at * HOUR, volume, Decimal(nanodollars).scaleb(-9))
        for at, (volume, nanodollars) in enumerate(values)
    ]


def by_full_parser(content: bytes) -> list[Record | Rejection]:
    return [parse._parse_record(raw) for raw in protocol.raw_records(content)]


@quick
@given(regular_fields(), st.sampled_from(["0", '"0"']), st.sampled_from(["", " ", "\r\n\t"]))
def test_a_regular_reply_has_the_hours_that_the_full_parser_reads(
    records: list[list[tuple[str, str]]], error_id: str, space: str
) -> None:
    content = written(records, error_id, f"{space}:{space}", f"{space},{space}")
    assert by_regular_hours(content) == by_full_parser(content)
    assert len(by_full_parser(content)) == len(records)


ODD_TEXTS = st.sampled_from(
    [
        "-1",
        "-0",
        "0.0",
        "1.0",
        "1e3",
        '"5"',
        '"',
        "5",
        '"',
        '""',
        "null",
        "true",
        "false",
        "NaN",
        "Infinity",
        "[]",
        "{}",
        "[5]",
        "00",
        "+5",
        "5.",
        ".5",
        "9223372036854775807",
        "0e999999999",
        "9223372036854775808",
        "253402300799",
        "253402300800",
        "999999999.9999999994",
        "999999999.9999999995",
        "-999999999.9999999995",
        "1000000000",
        "0.0000000005",
        "0.0000000015",
        "-0.0000000005",
        "1e-999999999",
        "1e999999999",
        "1e99999999999999999999",
        "1767225600",
        "1767229199",
    ]
) | st.sampled_from(["9" * 101, "9" * 5_000, "0." + "5" * 5_000])


def _damage(draw: random.Random, odd: str, records: list[list[tuple[str, str]]]) -> None:
    """Change one thing in the records that may take them out of the regular shape."""
    fields = draw.choice(records)
    at = draw.randrange(len(fields)) if fields else 0
    ways: list[Callable[[], object]] = [
        lambda: records.remove(fields),
        lambda: records.append(fields),
        lambda: draw.shuffle(records),
        lambda: draw.shuffle(fields),
        lambda: fields.append((draw.choice(["x", "money", "volume"]), odd)),
        lambda: records.insert(0, []),
        lambda: records.__setitem__(slice(0, 2), [list(chain.from_iterable(records[:2])), []]),
    ]
    if fields:
        ways += [lambda: fields.__setitem__(at, (fields[at][0], odd))] * 8
        ways += [lambda: fields.pop(at), lambda: fields.insert(at, fields[at])]
    draw.choice(ways)()


@settings(max_examples=500, deadline=None)
@given(regular_fields(), ODD_TEXTS, st.randoms(use_true_random=False))
def test_a_reply_of_nearly_regular_shape_is_never_read_differently(
    records: list[list[tuple[str, str]]], odd: str, draw: random.Random
) -> None:
    for _ in range(draw.randint(1, 2)):
        if records:
            _damage(draw, odd, records)
    content = written(records, draw.choice(["0", "0", "0", '"0"', "0.0", "-0", "false", "1", '"00"']))
    if draw.random() < 0.2:
        at = draw.randrange(len(content))
        content = content[:at] + bytes([draw.randrange(256)]) + content[at + 1 :]
    columns = by_regular_hours(content)
    assert columns is None or columns == by_full_parser(content)


# ---------------------------------------------------------------- money


@quick
@given(st.decimals(min_value=Decimal(-(10**9) + 1), max_value=Decimal(10**9 - 1), allow_nan=False))
def test_amounts_are_rounded_like_decimals(value: Decimal) -> None:
    expected = value.quantize(NINE, context=Context(prec=200, rounding=ROUND_HALF_EVEN))
    assert money.parse_money(value) == money.parse_money(str(value)) == expected
    assert money.round_to_nanodollars([value, Decimal(0)]) == (int(expected * 10**9), 0)


@quick
@given(st.text(max_size=12) | st.from_regex(r"[+-]?[0-9]{0,5}\.?[0-9]{0,5}([eE][+-]?[0-9]{1,3})?", fullmatch=True))
def test_a_number_in_text_equals_decimals_or_is_none(text: str) -> None:
    parsed = money.parse_decimal(text)
    if parsed is not None:
        assert text.isascii()
        assert parsed == Decimal(text)


@quick
@given(st.integers())
def test_integers_are_returned_unchanged_within_64_bits(value: int) -> None:
    fits = -(2**63) <= value < 2**63
    for spelling in (value, str(value), Decimal(value), f"{value}.000"):
        assert money.parse_int(spelling) == (value if fits else None)


# ---------------------------------------------------------------- one record an hour


record_lists = st.lists(
    st.tuples(
        st.builds(
            lambda hour, volume, amount: Record(START + hour * HOUR, volume, Decimal(amount)),
            st.integers(0, 2),
            st.integers(0, 2),
            st.integers(-1, 1),
        ),
        st.sampled_from("abc"),
    ),
    max_size=12,
)


@quick
@given(record_lists, st.randoms(use_true_random=False))
def test_the_record_chosen_for_an_hour_does_not_depend_on_the_order(
    records: list[tuple[Record, str]], draw: random.Random
) -> None:
    chosen, rejected = deduplicate_hours(records)
    assert deduplicate_hours(draw.sample(records, len(records))) == (chosen, rejected)
    assert chosen == tuple(
        max((r for r, _ in records if r.hour_start == hour), key=lambda r: (r.volume, r.money))
        for hour in sorted({r.hour_start for r, _ in records})
    )
    assert len(chosen) + len(rejected) == len({record for record, _ in records})


@quick
@given(
    st.lists(
        st.builds(RawRecord, *[st.none() | st.integers(-5, 5) | st.text(max_size=3)] * 4, st.just("raw")), max_size=6
    )
)
def test_every_record_is_used_rejected_or_out_of_the_window(raws: list[RawRecord]) -> None:
    window = Window.whole_day("default", TOTAL, date(1970, 1, 1))
    snapshot = parse_snapshot(Response(window, START, SuccessPayload(tuple(raws))), 1, None)
    collapsed = len(raws) - len(records_of(snapshot)) - len(snapshot.rejections) - snapshot.out_of_window
    assert collapsed >= 0
    assert snapshot.is_success or snapshot.rejections or snapshot.code == "off_grid"
