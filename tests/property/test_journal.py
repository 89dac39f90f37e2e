"""Whatever happened to a segment, nothing wrong is read from it, and everything before the damage is."""

import tempfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from etl.extract.journal import _LENGTH_AND_CHECKSUM, FORMAT, Journal, JournalHeader, Segment, read_journals
from etl.extract.protocol import parse_response
from etl.models import HOUR, TOTAL, Dimension, SeriesKey, Window, app, day_start, ip, queue
from etl.responses import InvalidResponse, ParsedResponse, Response, TransportError

quick = settings(max_examples=300, deadline=None)

HEADER = JournalHeader("default", "0a1b2c", 7, "1.2.3")

texts = st.text(max_size=20)
times = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
series = (
    st.just(TOTAL)
    | st.sampled_from([Dimension.QUEUE, Dimension.APP, Dimension.IP]).map(SeriesKey)
    | st.builds(queue, texts)
    | st.builds(app, st.from_regex(r"[1-9][0-9]{0,9}", fullmatch=True))
    | st.builds(ip, st.ip_addresses().map(str))
)
bodies = st.binary(max_size=200) | st.sampled_from(
    [
        b"",
        b'{"errorId":0,"data":[{"dateFrom":1772323200,"dateTill":1772326799,"volume":12,"money":0.345678901}]}',
        b'{"errorId":"0","data":{"3":{"dateFrom":"1772323200","volume":1e3,"money":"0.10000000000000001"}}}',
        b'{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST","errorDescription":"Account authorization key not found"}',
        b'{"errorId":0}',
    ]
)


@st.composite
def windows(draw: st.DrawFn, account: str) -> Window:
    day = draw(st.dates(date(2000, 1, 1), date(2100, 1, 1)))
    first, last = sorted((draw(st.integers(0, 23)), draw(st.integers(1, 24))))
    return Window(account, draw(series), day, day_start(day) + first * HOUR, day_start(day) + last * HOUR)


@st.composite
def responses(draw: st.DrawFn, account: str = HEADER.account) -> Response:
    """Responses as the client makes them: parsed, broken in transport, or none at all."""
    status, body = draw(st.sampled_from([200, 201, 302, 404, 429, 500])), draw(bodies)
    reply: ParsedResponse = draw(
        st.just(parse_response(status, body, "https://other.example/"))
        | st.builds(InvalidResponse, texts, texts)
        | st.builds(TransportError, texts, texts)
    )
    no_response = isinstance(reply, TransportError)
    return Response(
        draw(windows(account)),
        draw(times),
        reply,
        None if no_response else status,
        b"" if no_response else body,
        draw(st.integers(1, 12)),
        draw(st.none() | times),
        draw(st.floats(0, 1e6)),
        zlib.compress(body, 9) if draw(st.booleans()) and not no_response else b"",
    )


@contextmanager
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as path:
        yield Path(path) / "w.journal"


def read(data: bytes) -> Segment:
    """What is read from a segment with this content."""
    with folder() as prefix:
        Path(f"{prefix}.1").write_bytes(data)
        [segment] = read_journals(prefix)
        assert bool(segment.problem) <= (segment.header is None and not segment.responses)
        return segment


@cache
def written() -> tuple[bytes, tuple[Response, ...], tuple[int, ...]]:
    """A segment with three responses, and the file's size after each of them; first without any."""
    body = b'{"errorId":0,"data":[{"dateFrom":1772323200,"dateTill":1772326799,"volume":12,"money":0.345678901}]}'
    window = Window.whole_day("default", TOTAL, date(2026, 3, 1))
    first = Response(window, datetime(2026, 3, 2, tzinfo=UTC), parse_response(200, body), 200, body)
    later = replace(first, requested_at=first.requested_at + timedelta(seconds=1))
    failed = replace(later, reply=TransportError("reset", "connection lost"), status=None, body=b"")
    stored = (first, later, failed)
    with folder() as prefix:
        journal = Journal(prefix, HEADER)
        file, sizes = Path(f"{prefix}.1"), []
        for response in stored:
            journal.append(response)
            sizes.append(file.stat().st_size)
        data = file.read_bytes()
    header_end = len(FORMAT) + 8 + int.from_bytes(data[len(FORMAT) :][:4])
    return data, stored, (header_end, *sizes)


def whole_before(position: int) -> tuple[Response, ...]:
    """The responses that end at or before a position in the file."""
    _, stored, ends = written()
    return stored[: max(0, sum(end <= position for end in ends) - 1)]


@quick
@given(st.data(), st.text(max_size=20), st.text(max_size=64))
def test_every_response_is_read_back_equal(data: st.DataObject, account: str, identity: str) -> None:
    header = JournalHeader(account, identity, data.draw(st.integers(0, 2**63)), data.draw(texts))
    stored = data.draw(st.lists(responses(account), min_size=1, max_size=6))
    with folder() as prefix:
        journal = Journal(prefix, header)
        for response in stored:
            journal.append(response)
            if data.draw(st.booleans()):
                journal.rotate()
        segments = read_journals(prefix)
    assert {segment.header for segment in segments} == {header}
    back = [response for segment in segments for response in segment.responses]
    assert back == stored
    for before, after in zip(stored, back, strict=True):
        assert after.seconds == before.seconds
        assert after.compressed_body == (before.compressed_body or (zlib.compress(before.body) if before.body else b""))


def test_a_file_that_ends_at_any_byte_keeps_every_whole_response_before_it() -> None:
    data, stored, (header_end, *_) = written()
    for length in range(len(data) + 1):
        segment = read(data[:length])
        assert segment.responses == whole_before(length)
        assert bool(segment.problem) is (0 < length < header_end)
        assert (segment.header == HEADER) is (length >= header_end)
    assert read(data).responses == stored


@pytest.mark.parametrize("flip", [1, 0x80])
def test_a_changed_byte_loses_only_what_follows_it(flip: int) -> None:
    whole, _, (header_end, *ends) = written()
    for position in range(len(whole)):
        segment = read(whole[:position] + bytes([whole[position] ^ flip]) + whole[position + 1 :])
        assert segment.responses == whole_before(position)
        assert bool(segment.problem) is (position < header_end)
        if not segment.problem:
            assert segment.damaged_bytes == len(whole) - max(end for end in (header_end, *ends) if end <= position)


@quick
@given(st.integers(0, 3), st.binary(min_size=1, max_size=64) | st.integers(1, 5000).map(bytes))
@example(3, bytes(4096))  # what some file systems leave after a power failure
def test_anything_after_whole_responses_is_not_read(count: int, damage: bytes) -> None:
    whole, stored, ends = written()
    segment = read(whole[: ends[count]] + damage)
    assert segment.responses == stored[:count]
    assert segment.damaged_bytes == len(damage)


@quick
@given(st.binary(max_size=300), st.booleans())
def test_random_bytes_are_a_problem_or_damaged_and_never_a_response(data: bytes, has_format: bool) -> None:
    segment = read(FORMAT + data if has_format else data)
    assert segment.responses == ()
    assert bool(segment.problem) is (has_format or data != b"")


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@quick
@given(st.binary(max_size=300) | json_like.map(lambda value: repr(value).replace("'", '"').encode()), st.booleans())
@example(b"[" * 100_000, False)
@example(b"[" * 100_000, True)
@example(b'{"status": 200, "server_time": null}\n' + zlib.compress(b"{}"), True)
@example(b'{"status": 200, "server_time": null}\nno zlib', True)
def test_a_record_with_a_correct_checksum_and_other_content_is_damaged(content: bytes, after_header: bool) -> None:
    record = _LENGTH_AND_CHECKSUM.pack(len(content), zlib.crc32(content)) + content
    whole, _, ends = written()
    segment = read(whole[: ends[1]] + record + whole[ends[1] :] if after_header else FORMAT + record)
    assert segment.responses == (whole_before(ends[1]) if after_header else ())
