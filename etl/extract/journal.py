"""The journal: append-only files of responses that were received and are not yet committed.

A segment is a file: the line FORMAT, then records. A record is the length and the CRC-32 of its content (4 bytes each,
big-endian) and the content. The first record is the header in JSON. All others are responses: one line of JSON, then
the body compressed with zlib. What the parser can find again in the body is not in the JSON.

Nothing is flushed to the disk. A killed process loses nothing; a machine that stops may lose what was not committed,
and those windows are then requested again.
"""

import json
import os
import re
import struct
import threading
import zlib
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import date, datetime
from pathlib import Path
from typing import NamedTuple

from etl.errors import WarehouseError
from etl.extract.protocol import parse_response
from etl.models import Dimension, SeriesKey, Window
from etl.responses import InvalidResponse, ParsedResponse, Response, TransportError

FORMAT = b"anticaptcha-etl journal, format 1\n"
SET_ASIDE = ".set-aside"
"""End of the names of segments that cannot be used. They are kept, and nothing reads them."""

_LENGTH_AND_CHECKSUM = struct.Struct(">II")
_UNPARSED = {kind.__name__: kind for kind in (InvalidResponse, TransportError)}
"""Replies that do not depend on the body alone, so that they are stored with their code and reason."""
_UNDECODABLE = (ValueError, TypeError, LookupError, AttributeError, OverflowError, RecursionError, zlib.error)


class JournalHeader(NamedTuple):
    """Who wrote a segment: account, stored hash of its key in hex, run number, version of the program."""

    account: str
    identity: str
    run: int
    program: str


class Segment(NamedTuple):
    """A segment that an earlier run left on the disk.

    If it cannot be used, ``problem`` says why; ``header`` is then None, as in an empty file. ``damaged_bytes`` at its
    end are not read.
    """

    number: int
    path: Path
    header: JournalHeader | None = None
    responses: tuple[Response, ...] = ()
    problem: str = ""
    damaged_bytes: int = 0


class Journal:
    """Appends an account's responses to segments ``PREFIX.NUMBER``. Thread-safe; one process at a time.

    ``left`` are the segments of earlier runs whose responses are going to be committed with those of this run. Nothing
    is created before the first ``append``. Every method raises WarehouseError if the folder or disk does not allow it.
    """

    def __init__(self, prefix: Path, header: JournalHeader, left: Iterable[Segment] = ()) -> None:
        self._prefix = prefix
        self._start = FORMAT + _record(json.dumps(header).encode())
        self._lock = threading.Lock()
        self._uncommitted = Counter({one.number: len(one.responses) for one in left if not one.problem})
        self._number = 0
        self._size = 0
        self._descriptor: int | None = None

    def append(self, response: Response) -> int:
        """Store a response of the header's account with one write; return the number of its segment.

        After an error nothing of the response is stored, and the next one goes to a new segment.
        """
        record = _record(_encode(response))
        with self._lock, _clear_errors(self._prefix):
            descriptor = self._open_segment() if self._descriptor is None else self._descriptor
            data = record if self._size else self._start + record
            try:
                _write(descriptor, data)
            except OSError:
                with suppress(OSError):
                    os.ftruncate(descriptor, self._size)
                self._close_segment()
                raise
            self._size += len(data)
            self._uncommitted[self._number] += 1
            return self._number

    def rotate(self) -> None:
        """Close the segment: later responses go to a new one."""
        with self._lock, _clear_errors(self._prefix):
            self._close_segment()

    def committed(self, segments: Iterable[int]) -> None:
        """Delete the closed segments without uncommitted responses. ``segments`` has one number for each response."""
        with self._lock, _clear_errors(self._prefix):
            self._uncommitted.subtract(segments)
            self._delete_committed()

    def close(self) -> None:
        """Close the segment. Segments with uncommitted responses stay for the next run."""
        self.rotate()

    def _open_segment(self) -> int:
        if not self._number:
            self._prefix.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._number = max([0, *self._uncommitted, *(number for number, _ in _files(self._prefix))])
        self._number, self._size = self._number + 1, 0
        path = f"{self._prefix}.{self._number}"
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        self._uncommitted[self._number] = 0
        return self._descriptor

    def _close_segment(self) -> None:
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)
        self._delete_committed()

    def _delete_committed(self) -> None:
        for number in [number for number, count in self._uncommitted.items() if not count]:
            if self._descriptor is None or number != self._number:
                Path(f"{self._prefix}.{number}").unlink(missing_ok=True)
                del self._uncommitted[number]


def read_journals(prefix: Path) -> list[Segment]:
    """Return what earlier runs left, in the order of their segments. Only one process may use the account's journal.

    A damaged end is not read. Raises WarehouseError if the folder cannot be read.
    """
    with _clear_errors(prefix):
        found = sorted(_files(prefix))
    return [_read(number, path) for number, path in found if path.suffix != SET_ASIDE]


def count_responses(prefix: Path) -> int:
    """How many responses wait for a commit. Raises WarehouseError if the folder cannot be read."""
    return sum(len(segment.responses) for segment in read_journals(prefix))


def set_aside(segment: Segment) -> Path:
    """Rename a segment that cannot be used, so that no later run reads it. Returns its path. Raises WarehouseError."""
    with _clear_errors(segment.path):
        return segment.path.rename(f"{segment.path}{SET_ASIDE}")


@contextmanager
def _clear_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise WarehouseError(
            f"cannot use the journal {path}: {error.strerror or error}",
            f"free disk space, or make {path.parent} a folder that this user can read and write (for a warehouse on a "
            "server: --state-folder); then sync again: what was received before is kept",
        ) from error


def _files(prefix: Path) -> list[tuple[int, Path]]:
    """The number and path of each segment, of those set aside too: their numbers are not used again."""
    name = re.compile(rf"{re.escape(prefix.name)}\.([1-9][0-9]{{0,17}})({re.escape(SET_ASIDE)})?")
    try:
        matches = [name.fullmatch(path.name) for path in prefix.parent.iterdir()]
    except FileNotFoundError:
        return []
    return [(int(match[1]), prefix.with_name(match[0])) for match in matches if match]


def _write(descriptor: int, data: bytes) -> None:
    """Only a disk that is about to be full takes less than all of it; the second write then raises the reason."""
    while data:
        data = data[os.write(descriptor, data) :]


# ---------------------------------------------------------------- encoding


def _record(content: bytes) -> bytes:
    return _LENGTH_AND_CHECKSUM.pack(len(content), zlib.crc32(content)) + content


def _encode(response: Response) -> bytes:
    window, reply = response.window, response.reply
    fields: dict[str, object] = {
        "dimension": window.series.dimension,
        "member": window.series.member,
        "day": window.day.isoformat(),
        "start": window.start.isoformat(),
        "end": window.end.isoformat(),
        "requested_at": response.requested_at.isoformat(),
        "requests": response.requests,
        "seconds": response.seconds,
        "status": response.status,
        "server_time": response.server_time and response.server_time.isoformat(),
    }
    if isinstance(reply, InvalidResponse | TransportError):
        fields["unparsed"] = (type(reply).__name__, reply.code, reply.reason)
    body = response.compressed_body or (zlib.compress(response.body) if response.body else b"")
    return json.dumps(fields).encode() + b"\n" + body


def _read(number: int, path: Path) -> Segment:
    try:
        data = path.read_bytes()
    except FileNotFoundError:  # a sync that is running has just committed it
        data = b""
    except OSError as error:
        return Segment(number, path, problem=f"cannot be read: {error.strerror or error}")
    if data and not data.startswith(FORMAT):
        return Segment(number, path, problem="is not in the format of this version of the program")
    header, responses, end = None, [], len(FORMAT)
    with suppress(*_UNDECODABLE):
        for content, next_end in _contents(data):
            if header is None:
                account, identity, run, program = json.loads(content)
                header = JournalHeader(account, identity, run, program)
            else:
                responses.append(_decode(content, header.account))
            end = next_end
    if data and header is None:
        return Segment(number, path, problem="has a damaged header")
    return Segment(number, path, header, tuple(responses), damaged_bytes=max(0, len(data) - end))


def _contents(data: bytes) -> Iterator[tuple[bytes, int]]:
    """Yield each whole record with the position of its end, up to the first damaged one."""
    start = len(FORMAT)
    while start + _LENGTH_AND_CHECKSUM.size <= len(data):
        length, checksum = _LENGTH_AND_CHECKSUM.unpack_from(data, start)
        start += _LENGTH_AND_CHECKSUM.size
        content = data[start : start + length]
        start += length
        if start > len(data) or zlib.crc32(content) != checksum:
            return
        yield content, start


def _decode(content: bytes, account: str) -> Response:
    line, _, compressed_body = content.partition(b"\n")
    fields = json.loads(line)
    status, server_time = fields["status"], fields["server_time"]
    body = zlib.decompress(compressed_body) if compressed_body else b""
    reply: ParsedResponse
    if "unparsed" in fields:
        kind, code, reason = fields["unparsed"]
        reply = _UNPARSED[kind](code, reason)
    else:
        reply = parse_response(status, body)
    window = Window(
        account,
        SeriesKey(Dimension(fields["dimension"]), fields["member"]),
        date.fromisoformat(fields["day"]),
        datetime.fromisoformat(fields["start"]),
        datetime.fromisoformat(fields["end"]),
    )
    return Response(
        window,
        datetime.fromisoformat(fields["requested_at"]),
        reply,
        status,
        body,
        fields["requests"],
        server_time and datetime.fromisoformat(server_time),
        fields["seconds"],
        compressed_body,
    )
