"""Any response, also from a proxy in front of the API: no crash, no wrong number, a reason for every rejection.

Twenty thousand responses here, a million in ``make fuzz``. Interesting responses are kept in ``hostile/``.
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
from tests.property.hostile import CONTEXTS, KINDS, PLACES, STATUSES, HttpResponse, generate
from tests.property.oracle import compare

EXAMPLES_PER_KIND = 3_000
"""Examples of each kind; `make fuzz` plays a million."""

STORED_BODIES = sorted((Path(__file__).parent / "hostile").glob("*.bin"))


@settings(max_examples=EXAMPLES_PER_KIND, deadline=None, database=None)
@given(seed=st.integers(0, 2**64))
@pytest.mark.parametrize("kind", KINDS)
def test_every_response_is_read_exactly_or_rejected_with_a_reason(kind: str, seed: int) -> None:
    response = generate(seed, kind)
    note(ascii(response))
    compare(response)


@settings(max_examples=500, deadline=None, database=None)
@given(body=st.binary(max_size=60), status=st.integers(0, 999), headers=st.tuples(st.text(), st.text(), st.text()))
def test_any_status_and_any_headers_are_handled(body: bytes, status: int, headers: tuple[str, str, str]) -> None:
    compare(HttpResponse(body, status, *headers))


@pytest.mark.parametrize("path", STORED_BODIES, ids=lambda path: path.stem)
def test_stored_responses_are_handled_for_every_request(path: Path) -> None:
    body = path.read_bytes()
    for context, status in product(CONTEXTS, (200, 500)):
        compare(HttpResponse(body, status, context=context))


@pytest.mark.parametrize(("status", "location"), [*product(STATUSES, PLACES)])
def test_a_redirect_names_its_host_or_that_it_has_none(status: int, location: str) -> None:
    compare(HttpResponse(b"", status, location))


# ---------------------------------------------------------------- how long it takes


def count_calls(body: bytes) -> int:
    """Count the Python and C calls needed to parse ``body``."""
    calls = 0

    def count(_frame: FrameType, event: str, _argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    context = CONTEXTS[1]
    before = sys.getprofile()
    sys.setprofile(count)
    try:
        parse.parse_snapshot(
            Response(context.window, context.requested_at, protocol.parse_response(200, body), 200, body), 1, 0
        )
    finally:
        sys.setprofile(before)
    return calls


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
def test_the_work_grows_linearly_with_the_response(body: Callable[[int], bytes]) -> None:
    assert count_calls(body(4_000)) <= 4.5 * count_calls(body(1_000)) + 100


def test_the_text_of_a_rejection_is_bounded() -> None:
    body = b'{"errorId":0,"data":[' + b",".join([b'"' + b"\xff" * 10_000 + b'"'] * 50) + b"]}"
    context = CONTEXTS[1]
    snapshot = parse.parse_snapshot(
        Response(context.window, context.requested_at, protocol.parse_response(200, body)), 1, 0
    )
    text = '"' + "\\ufffd" * 400
    assert snapshot.rejections == (Rejection("dateFrom is missing", text[: protocol.RAW_CHARS], None),) * 50
