"""The journal: whatever happened to a segment, only responses that were written are read, up to the first damage."""

import json
import random
import shutil
import struct
import zlib
from datetime import UTC, datetime, timedelta
from typing import ClassVar

from etl.extract.journal import FORMAT, Journal, JournalHeader, read_journals
from etl.extract.protocol import parse_response
from etl.models import TOTAL, Window, queue
from etl.responses import Response, TransportError
from etl.sync.recovery import usable_segments
from tests.fuzz.door import Door, damaged, require

HEADER = JournalHeader("default", "0a1b2c", 7, "1.2.3")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODIES = (
    b'{"errorId":0,"data":[{"dateFrom":1772323200,"dateTill":1772326799,"volume":12,"money":0.345678901}]}',
    b'{"errorId":0}', b"", b"<html>", b'{"errorId":2,"errorCode":"ERROR_NO_SLOT_AVAILABLE"}', bytes(range(256)),
)  # fmt: skip
HOSTILE: tuple[object, ...] = (
    None, True, -1, 10**40, 1.5, "", "x", [], {}, "0000-00-00", "2026-03-01T00:00:00", "2026-03-01T00:00:00+99:00", "queue", "\ud800",
    ["InvalidResponse"], ["Window", "a", "b"], {"a": {}}, "9" * 400,
)  # fmt: skip


class JournalDoor(Door):
    name: ClassVar = "journal"
    default_count: ClassVar = 100_000

    def make(self, source: random.Random) -> bytes:
        """One letter for the kind of damage, then the content of a segment."""
        content = self._written(source)
        kind = source.randrange(4)
        if kind == 0:
            return b"h" + self._hostile(source, content)
        if kind == 1:
            content += content[len(FORMAT) :]  # the same responses twice, with a header between them
        return b"d" + damaged(source, content)

    def _written(self, source: random.Random) -> bytes:
        prefix = self.folder / "made.journal"
        journal = Journal(prefix, HEADER)
        for number in range(source.choice((1, 1, 2, 5))):
            journal.append(_response(number + 10 * source.randrange(3)))
        journal.close()
        path = self.folder / "made.journal.1"
        content = path.read_bytes()
        path.unlink()
        return content

    def _hostile(self, source: random.Random, content: bytes) -> bytes:
        """A record with a correct checksum and fields that no version writes."""
        line = json.loads(_encoded(content).partition(b"\n")[0])
        for _ in range(source.choice((1, 1, 3))):
            name = source.choice([*line, "unparsed", "new"])
            if source.random() < 0.2:
                line.pop(name, None)
            else:
                line[name] = source.choice(HOSTILE)
        text = (
            json.dumps(line).encode() if source.random() < 0.9 else source.choice((b"[]", b"3", b"", b"null", b"\xff"))
        )
        body = source.choice((b"", b"x", zlib.compress(b"{"), zlib.compress(BODIES[0])[:-3]))
        record = text + b"\n" + body
        return content + struct.pack(">II", len(record), zlib.crc32(record)) + record

    def check(self, content: bytes) -> str:
        kind, content = content[:1], content[1:]
        path = self.folder / "warehouse.duckdb.default.journal.1"
        path.write_bytes(content)
        prefix = path.with_suffix("")
        try:
            [segment] = read_journals(prefix)
            require(path.read_bytes() == content, "reading does not change a segment")
            if kind == b"d":
                for response in segment.responses:
                    number = (NOON.date() - response.window.day).days
                    require(response == _response(number), "only responses that were written are read")
            usable = usable_segments(prefix, HEADER.identity)
            left = [one.read_bytes() for one in self.folder.iterdir() if one.name.startswith(path.name)]
            require(left == [content], "a segment that cannot be used is left")
        finally:
            for one in self.folder.iterdir():
                shutil.rmtree(one) if one.is_dir() else one.unlink()
        if not usable:
            return "set aside"
        return "whole" if not segment.damaged_bytes else f"damaged after {min(len(segment.responses), 3)}"


def _encoded(content: bytes) -> bytes:
    """The content of the last record of a segment that is whole."""
    start, record = len(FORMAT), b""
    while start < len(content):
        (length, _) = struct.unpack_from(">II", content, start)
        record = content[start + 8 : start + 8 + length]
        start += 8 + length
    return record


def _response(number: int) -> Response:
    """The only response for a day, so that each that is read can be compared with what was written."""
    series = TOTAL if number % 2 else queue(f"Queue {number}")
    window = Window.whole_day("default", series, NOON.date() - timedelta(days=number))
    requested_at, body = NOON + timedelta(microseconds=number), BODIES[number % len(BODIES)]
    if number % 5 == 4:
        return Response(window, requested_at, TransportError("reset", "connection lost"))
    return Response(window, requested_at, parse_response(200, body), 200, body, server_time=NOON, seconds=0.25)
