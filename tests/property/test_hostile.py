"""Whatever the service, or something in front of it, may send: no crash, no wrong number, every refusal explained.

Twenty thousand answers here, a million in ``make fuzz``. Answers worth remembering are kept in ``hostile/`` and read
again.
"""

import sys
from collections.abc import Callable
from itertools import product
from pathlib import Path
from types import FrameType

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from etl.extract import protocol
from etl.models import Rejection
from etl.responses import Response
from etl.transform import parse
from tests.property.hostile import CONTEXTS, KINDS, PLACES, STATUSES, Came, made
from tests.property.oracle import judge

EACH = 5_000
"""Examples of every kind."""

KEPT = sorted((Path(__file__).parent / "hostile").glob("*.bin"))


@settings(max_examples=EACH, deadline=None, database=None)
@given(seed=st.integers(0, 2**64))
@pytest.mark.parametrize("kind", KINDS)
def test_every_answer_is_read_exactly_or_refused_with_its_reason(kind: str, seed: int) -> None:
    came = made(seed, kind)
    note(ascii(came))
    judge(came)


@settings(max_examples=500, deadline=None, database=None)
@given(body=st.binary(max_size=60), status=st.integers(0, 999), headers=st.tuples(st.text(), st.text(), st.text()))
def test_no_status_and_no_header_is_a_surprise(body: bytes, status: int, headers: tuple[str, str, str]) -> None:
    judge(Came(body, status, *headers))


@pytest.mark.parametrize("path", KEPT, ids=lambda path: path.stem)
def test_a_kept_answer_keeps_every_promise_whatever_was_asked(path: Path) -> None:
    body = path.read_bytes()
    for context, status in product(CONTEXTS, (200, 500)):
        judge(Came(body, status, context=context))


@pytest.mark.parametrize(("status", "place"), [*product(STATUSES, PLACES)])
def test_a_place_pointed_to_is_named_or_said_to_be_none(status: int, place: str) -> None:
    judge(Came(b"", status, place))


# ---------------------------------------------------------------- how long it takes


def steps(body: bytes) -> int:
    """How many calls, of Python and of C, it takes to read ``body``."""
    counted = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal counted
        counted += event in ("call", "c_call")

    context = CONTEXTS[1]
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        parse.parse_snapshot(
            Response(context.window, context.requested_at, protocol.parse_response(200, body), 200, body), 1, 0
        )
    finally:
        sys.setprofile(before)
    return counted


RECORD = b'{"dateFrom":1767225600,"dateTill":1767229199,"volume":%d,"money":1.5}'


@pytest.mark.parametrize(
    "body",
    [
        lambda size: b'{"errorId":0,"data":[' + b",".join(RECORD % number for number in range(size)) + b"]}",
        lambda size: b'{"errorId":0,"data":[' + b",".join([RECORD % 7] * size) + b"]}",
        lambda size: b'{"errorId":0,"data":[' + b",".join([RECORD % -1] * size) + b"]}",
        lambda size: b'{"errorId":0,"data":[{' + b",".join(b'"%d":0' % number for number in range(size)) + b"}]}",
        lambda size: b'{"errorId":0,"data":[' + b"[" * 20 + b"0," * size + b"0" + b"]" * 20 + b"]}",
        lambda size: b'{"errorId":0,"data":[{"money":' + b"9" * size + b"}]}",
        lambda size: b'{"errorId":0,"data":[{"money":"' + b"9" * size + b'x"}]}',
        lambda size: b'{"errorId":0,"data":' + b"[" * size,
        lambda size: b"\xff\x00" * size,
    ],
    ids=["one-hour", "repeats", "rejections", "fields", "nested", "digits", "text", "open", "noise"],
)
def test_work_grows_with_the_answer_and_no_faster(body: Callable[[int], bytes]) -> None:
    assert steps(body(4_000)) <= 4.5 * steps(body(1_000)) + 100


def test_a_kept_text_is_bounded_whatever_the_record() -> None:
    body = b'{"errorId":0,"data":[' + b",".join([b'"' + b"\xff" * 10_000 + b'"'] * 50) + b"]}"
    context = CONTEXTS[1]
    snapshot = parse.parse_snapshot(
        Response(context.window, context.requested_at, protocol.parse_response(200, body)), 1, 0
    )
    kept = '"' + "\\ufffd" * 400
    assert snapshot.rejections == (Rejection("dateFrom is missing", kept[: protocol.RAW_CHARS], None),) * 50
