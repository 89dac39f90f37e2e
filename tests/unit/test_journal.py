"""The journal keeps every response until it is committed, and deletes a segment only when all in it are."""

import json
import stat
import threading
import zlib
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest

from etl.errors import WarehouseError
from etl.extract.journal import FORMAT, Journal, JournalHeader, Segment, count_responses, read_journals, set_aside
from etl.extract.protocol import parse_response
from etl.models import TOTAL, Window
from etl.responses import InvalidResponse, Response, TransportError
from etl.warehouse.account_files import journal_prefix, lock_file

HEADER = JournalHeader("default", "0a1b2c", 7, "1.2.3")
NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
BODY = b'{"errorId":0,"data":[{"dateFrom":1772323200,"dateTill":1772326799,"volume":12,"money":0.345678901}]}'


def response(number: int = 0, body: bytes = BODY) -> Response:
    """A different response for each number."""
    window = Window.whole_day("default", TOTAL, date(2026, 3, 1) - timedelta(days=number))
    requested_at = NOON + timedelta(microseconds=number)
    return Response(window, requested_at, parse_response(200, body), 200, body, server_time=NOON, seconds=0.25)


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb.default.journal"


@pytest.fixture
def journal(prefix: Path) -> Journal:
    return Journal(prefix, HEADER)


def file_names(prefix: Path) -> list[str]:
    return sorted(path.name.removeprefix(prefix.name) for path in prefix.parent.iterdir())


def stored(prefix: Path) -> list[Response]:
    """All responses of all segments, in order."""
    return [response for segment in read_journals(prefix) for response in segment.responses]


# ---------------------------------------------------------------- segments


def test_nothing_is_created_before_the_first_response(prefix: Path, journal: Journal) -> None:
    journal.rotate()
    journal.committed([])
    journal.close()
    assert file_names(prefix) == []
    assert read_journals(prefix) == []
    assert read_journals(prefix / "no" / "such folder") == []


def test_responses_are_read_back_in_the_order_of_their_segments(prefix: Path, journal: Journal) -> None:
    for number in range(24):
        assert journal.append(response(number)) == number // 2 + 1
        if number % 2:
            journal.rotate()
    journal.close()
    segments = read_journals(prefix)
    assert [segment.number for segment in segments] == list(range(1, 13))
    assert stored(prefix) == [response(number) for number in range(24)]
    assert count_responses(prefix) == 24
    assert {(segment.header, segment.problem, segment.damaged_bytes) for segment in segments} == {(HEADER, "", 0)}


def test_a_response_is_on_the_disk_when_append_returns(prefix: Path, journal: Journal) -> None:
    journal.append(response(1))
    assert stored(prefix) == [response(1)]
    journal.append(response(2))
    assert stored(prefix) == [response(1), response(2)]


def test_a_segment_is_deleted_only_when_it_is_closed_and_all_of_it_is_committed(prefix: Path, journal: Journal) -> None:
    first = [journal.append(response(number)) for number in range(3)]
    journal.committed(first[:1])
    journal.rotate()
    assert file_names(prefix) == [".1"]
    second = [journal.append(response(number)) for number in range(3, 5)]
    journal.committed([first[1], second[0]])
    assert file_names(prefix) == [".1", ".2"]
    journal.committed([first[2]])
    assert file_names(prefix) == [".2"]
    journal.committed([second[1]])
    assert file_names(prefix) == [".2"]  # it is still open
    assert journal.append(response(5)) == 2
    journal.rotate()
    assert stored(prefix) == [response(3), response(4), response(5)]
    journal.committed([2])
    assert file_names(prefix) == []


def test_a_segment_that_is_committed_before_it_is_closed_is_deleted_by_closing(prefix: Path, journal: Journal) -> None:
    journal.committed([journal.append(response())])
    journal.close()
    assert file_names(prefix) == []


def test_closing_keeps_what_is_not_committed(prefix: Path, journal: Journal) -> None:
    journal.append(response(1))
    journal.committed([journal.append(response(2))])
    journal.close()
    assert stored(prefix) == [response(1), response(2)]


def test_segments_of_an_earlier_run_are_deleted_after_their_commit_and_their_numbers_not_used_again(
    prefix: Path, journal: Journal
) -> None:
    journal.append(response(1))
    journal.rotate()
    journal.append(response(2))
    journal.close()
    left = read_journals(prefix)
    later = Journal(prefix, HEADER._replace(run=8), left)
    assert later.append(response(3)) == 3
    later.committed([segment.number for segment in left for _ in segment.responses])
    assert file_names(prefix) == [".3"]
    [segment] = read_journals(prefix)
    assert segment.header == HEADER._replace(run=8)


def test_another_journal_at_the_same_time_is_never_overwritten(prefix: Path, journal: Journal) -> None:
    journal.append(response(1))
    other = Journal(prefix, HEADER)
    assert other.append(response(2)) == 2
    journal.rotate()
    with pytest.raises(WarehouseError, match="File exists"):
        journal.append(response(3))
    assert journal.append(response(3)) == 3
    journal.close()
    journal.committed([1, 3])
    assert stored(prefix) == [response(2)]


def test_a_segment_that_someone_deleted_is_not_confused_with_a_new_one(prefix: Path, journal: Journal) -> None:
    journal.append(response(1))
    journal.close()
    left = read_journals(prefix)
    left[0].path.unlink()
    later = Journal(prefix, HEADER, left)
    assert later.append(response(2)) == 2
    later.rotate()
    later.committed([1])
    assert stored(prefix) == [response(2)]


def test_an_empty_segment_is_no_problem_and_is_deleted_by_the_next_run(prefix: Path) -> None:
    Path(f"{prefix}.4").touch()  # the process was killed between creating the file and writing it
    left = read_journals(prefix)
    assert left == [Segment(4, Path(f"{prefix}.4"))]
    Journal(prefix, HEADER, left).close()
    assert file_names(prefix) == []


def test_threads_append_without_mixing_their_responses(prefix: Path, journal: Journal) -> None:
    appended: dict[int, list[int]] = {}

    def append(thread: int) -> None:
        appended[thread] = [journal.append(response(1000 * thread + number)) for number in range(200)]

    threads = [threading.Thread(target=append, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for _ in range(50):
        journal.rotate()
    for thread in threads:
        thread.join()
    journal.close()
    days = sorted(one.requested_at for one in stored(prefix))
    assert days == sorted(response(1000 * thread + number).requested_at for thread in range(4) for number in range(200))
    for segment in read_journals(prefix):
        assert len(segment.responses) == sum(numbers.count(segment.number) for numbers in appended.values())
    journal.committed([number for numbers in appended.values() for number in numbers])
    assert file_names(prefix) == []


def test_a_journal_can_be_read_while_a_sync_writes_and_deletes_its_segments(prefix: Path, journal: Journal) -> None:
    def write() -> None:
        for number in range(3000):
            segment = journal.append(response(number))
            journal.rotate()
            journal.committed([segment])

    writer = threading.Thread(target=write)
    writer.start()
    while writer.is_alive():
        assert not [segment.problem for segment in read_journals(prefix) if segment.problem]
    writer.join()


# ---------------------------------------------------------------- what a response keeps


@pytest.mark.parametrize(
    ("status", "body", "reply"),
    [
        (200, BODY, parse_response(200, BODY)),
        (200, b'{"errorId":1,"errorCode":"ERROR_X","errorDescription":"no"}', None),
        (500, b"<html>", None),
        (302, b"", parse_response(302, b"", "https://other.example/")),
        (200, b'{"errorId":0,', InvalidResponse("cut_body", "HTTP 200, ended after 13 bytes: connection lost")),
        (200, b"", InvalidResponse("too_large", "more than 1048576 bytes; none are stored")),
        (None, b"", TransportError("reset", "connection lost (\udcff \N{SNOWMAN}\n)")),
    ],
    ids=["success", "API error", "web page", "redirect", "incomplete body", "too large", "no response"],
)
def test_a_response_is_read_back_equal(
    prefix: Path, journal: Journal, status: int | None, body: bytes, reply: TransportError | None
) -> None:
    before = replace(response(), reply=reply or parse_response(status or 0, body), status=status, body=body, requests=3)
    journal.append(before)
    [after] = stored(prefix)
    assert after == before
    assert type(after.reply) is type(before.reply)
    assert after.seconds == 0.25


def test_a_compressed_body_is_stored_as_it_is(prefix: Path, journal: Journal) -> None:
    compressed = zlib.compress(BODY, 1)
    assert compressed != zlib.compress(BODY)
    journal.append(replace(response(), compressed_body=compressed))
    journal.append(response())
    first, second = stored(prefix)
    assert first.compressed_body == compressed
    assert second.compressed_body == zlib.compress(BODY)
    assert first.body == second.body == BODY


# ---------------------------------------------------------------- files


def test_only_the_user_can_read_a_segment_and_a_new_state_folder(tmp_path: Path) -> None:
    prefix = tmp_path / "state" / "anticaptcha-etl" / "db.default.journal"
    Journal(prefix, HEADER).append(response())
    assert stat.S_IMODE(prefix.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(Path(f"{prefix}.1").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("damage", "problem"),
    [
        (lambda data: data.replace(b"format 1", b"format 2"), "format of this version"),
        (lambda _: b"anything", "format of this version"),
        (lambda data: data[:20], "format of this version"),
        (lambda data: data.replace(b"0a1b2c", b"0a1b2d"), "damaged header"),
        (lambda data: data[: len(FORMAT) + 10], "damaged header"),
    ],
    ids=["another format", "another file", "incomplete first line", "another identity", "incomplete header"],
)
def test_a_segment_that_cannot_be_used_is_set_aside_and_never_overwritten(
    prefix: Path, journal: Journal, damage: Callable[[bytes], bytes], problem: str
) -> None:
    journal.append(response())
    journal.close()
    file = Path(f"{prefix}.1")
    file.write_bytes(damage(file.read_bytes()))
    [segment] = read_journals(prefix)
    assert problem in segment.problem
    assert (segment.header, segment.responses) == (None, ())
    Journal(prefix, HEADER, [segment]).close()
    assert file.exists()  # even a caller that does not look at the problem deletes nothing
    content = file.read_bytes()
    assert set_aside(segment) == Path(f"{file}.set-aside")
    assert read_journals(prefix) == []
    assert Journal(prefix, HEADER).append(response()) == 2
    assert Path(f"{file}.set-aside").read_bytes() == content


def test_a_segment_that_cannot_be_read_is_a_problem(prefix: Path) -> None:
    Path(f"{prefix}.1").mkdir()
    [segment] = read_journals(prefix)
    assert segment.problem == "cannot be read: Is a directory"
    set_aside(segment)
    with pytest.raises(WarehouseError, match="cannot use the journal") as caught:
        set_aside(segment)
    assert caught.value.hint


def test_files_with_similar_names_are_not_segments(prefix: Path, journal: Journal) -> None:
    for name in ("", ".", ".0", ".01", ".x", ".1x", ".\N{SUPERSCRIPT TWO}", ".1.part", ".1.set-aside.1"):
        prefix.with_name(prefix.name + name if name != "." else "other.journal.1").touch()
    assert read_journals(prefix) == []
    assert journal.append(response()) == 1


def test_the_header_says_which_account_key_run_and_version_wrote_a_segment(prefix: Path) -> None:
    headers = [HEADER, HEADER._replace(account="b\n\udcff"), HEADER._replace(identity="ff"), HEADER._replace(run=9)]
    for header in headers:
        Journal(prefix, header).append(response())
    assert [segment.header for segment in read_journals(prefix)] == headers
    assert {window.account for segment in read_journals(prefix)[1:2] for window in [segment.responses[0].window]} == {
        "b\n\udcff"
    }


def test_a_segment_is_the_format_line_and_checksummed_json(prefix: Path, journal: Journal) -> None:
    journal.append(response())
    data = Path(f"{prefix}.1").read_bytes()
    assert data.startswith(FORMAT)
    length = int.from_bytes(data[len(FORMAT) :][:4])
    assert json.loads(data[len(FORMAT) + 8 :][:length]) == list(HEADER)
    assert json.loads(data[len(FORMAT) + 16 + length :].split(b"\n")[0])["day"] == "2026-03-01"


# ---------------------------------------------------------------- names

SERVER = "postgresql+psycopg://etl:hush-hush@db.example:5433/spending"


def test_the_journal_of_a_duckdb_file_is_beside_the_file_itself(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.duckdb"
    link.symlink_to(tmp_path / "w.duckdb")
    assert journal_prefix(f"duckdb:///{link}", "a b", Path("/state")) == tmp_path / "w.duckdb.a%20b.journal"


def test_the_journal_of_a_server_is_in_the_state_folder_without_user_and_password() -> None:
    prefix = journal_prefix(SERVER, "default", Path("/state"))
    assert prefix == Path("/state/db.example%3A5433%2Fspending.default.journal")


def test_servers_and_accounts_have_separate_journals() -> None:
    urls = [SERVER, SERVER.replace("5433", "5434"), SERVER.replace("spending", "other"), SERVER.replace("db.", "d.")]
    prefixes = {
        journal_prefix(url, account, Path("/state")) for url in urls for account in ("a", "A", "a.b", "é" * 300)
    }
    assert len(prefixes) == 16
    assert max(len(prefix.name) for prefix in prefixes) < 200


def test_an_account_with_a_long_name_has_a_lock_and_a_journal_with_short_names(tmp_path: Path) -> None:
    names = {
        path.name
        for end in "12"
        for path in (
            lock_file(tmp_path / "w.duckdb", "a" * 300 + end),
            journal_prefix(f"duckdb:///{tmp_path}/w.duckdb", "a" * 300 + end, tmp_path),
        )
    }
    assert len(names) == 4
    assert max(map(len, names)) < 100
