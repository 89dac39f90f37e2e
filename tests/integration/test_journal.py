"""The journal on real disks and in processes that are killed."""

import os
import random
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from etl.errors import WarehouseError
from etl.extract.journal import Journal, JournalHeader, read_journals
from etl.responses import Response

HEADER = JournalHeader("default", "0a1b2c", 7, "1.2.3")

_RESPONSE = """
import hashlib
from datetime import UTC, date, datetime, timedelta
from etl.extract.journal import Journal, JournalHeader
from etl.extract.protocol import parse_response
from etl.models import TOTAL, Window
from etl.responses import Response

def response(number: int) -> Response:
    noise = hashlib.shake_256(b"%d" % number).hexdigest(number * 7919 % 3000)  # of different sizes when compressed
    body = b'{"errorId":0,"number":%d,"noise":"%s"}' % (number, noise.encode())
    window = Window.whole_day("default", TOTAL, date(2026, 3, 1))
    requested_at = datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(microseconds=number)
    return Response(window, requested_at, parse_response(200, body), 200, body)
"""
"""Shared with programs that this test starts: a different response for each number."""

_names: dict[str, object] = {}
exec(_RESPONSE, _names)


def response(number: int) -> Response:
    made = _names["response"](number)  # type: ignore[operator]  # defined by the text above
    assert isinstance(made, Response)
    return made


_APPEND_UNTIL_KILLED = f"""
import sys, threading
from pathlib import Path
{_RESPONSE}
journal = Journal(Path(sys.argv[1]), {HEADER!r})
printing = threading.Lock()

def append(thread: int) -> None:
    number = thread * 1_000_000
    while True:
        segment = journal.append(response(number))
        with printing:
            print(number, segment, flush=True)
        if number % 7 == 0:
            journal.rotate()
        number += 1

for thread in range(4):
    threading.Thread(target=append, args=(thread,)).start()
"""


@pytest.mark.parametrize("seed", range(8))
def test_a_killed_process_loses_nothing_whose_append_returned(tmp_path: Path, seed: int) -> None:
    prefix = tmp_path / "w.journal"
    process = subprocess.Popen([sys.executable, "-c", _APPEND_UNTIL_KILLED, prefix], stdout=subprocess.PIPE, text=True)
    with process:
        assert process.stdout is not None
        lines = [process.stdout.readline()]
        threading.Event().wait(random.Random(seed).uniform(0, 0.1))
        process.send_signal(signal.SIGKILL)
        lines += process.stdout.readlines()
    assert process.returncode == -signal.SIGKILL
    returned = [tuple(map(int, line.split())) for line in lines if line.endswith("\n")]
    assert returned
    segments = {segment.number: segment for segment in read_journals(prefix)}
    assert not [segment.problem for segment in segments.values() if segment.problem]
    for number, segment in returned:
        assert response(number) in segments[segment].responses
    stored = [one for segment in segments.values() for one in segment.responses]
    assert len(returned) <= len(stored) <= len(returned) + 4  # those being appended: one for each thread
    for one in stored:
        assert one == response((one.requested_at - response(0).requested_at) // timedelta(microseconds=1))


_APPEND_UNTIL_FULL = f"""
import resource, sys
sys.dont_write_bytecode = True
from pathlib import Path
from etl.errors import WarehouseError
{_RESPONSE}
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]), resource.RLIM_INFINITY))
journal = Journal(Path(sys.argv[1]), {HEADER!r})
number = 0
try:
    while True:
        journal.append(response(number))
        number += 1
except WarehouseError as error:
    print(number, error.exit_code, error.message, error.hint, sep="\\n")
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.append(response(1_000_000))
"""


@pytest.mark.parametrize("size", [0, 20, 150, 5_000, 50_000])
def test_a_full_disk_is_an_error_and_later_responses_are_read_back(tmp_path: Path, size: int) -> None:
    prefix = tmp_path / "w.journal"
    done = subprocess.run(
        [sys.executable, "-c", _APPEND_UNTIL_FULL, prefix, str(size)], capture_output=True, text=True, check=True
    )
    count, code, message, hint = done.stdout.splitlines()
    assert (int(code), message) == (4, f"cannot use the journal {prefix}: File too large")
    assert "free disk space" in hint
    assert bool(int(count)) is (size >= 5_000)
    segments = read_journals(prefix)
    stored = [one for segment in segments for one in segment.responses]
    assert stored == [response(number) for number in (*range(int(count)), 1_000_000)]
    assert {(segment.problem, segment.damaged_bytes) for segment in segments} == {("", 0)}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 64 kB; only the superuser can mount one."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(folder)]
    if os.geteuid() or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("no file system can be mounted here")
    yield folder
    subprocess.run(["umount", "--lazy", str(folder)], check=True)


def test_a_file_system_without_free_space_keeps_what_was_appended(small_disk: Path) -> None:
    journal, count = Journal(small_disk / "w.journal", HEADER), 0
    with pytest.raises(WarehouseError, match="No space left on device") as caught:  # noqa: PT012 - any append may fail
        while True:
            journal.append(response(count))
            count += 1
    assert caught.value.exit_code == 4
    assert count > 10
    assert [one for segment in read_journals(small_disk / "w.journal") for one in segment.responses] == [
        response(number) for number in range(count)
    ]
    journal.committed([1] * count)
    assert journal.append(response(count)) > 1  # in the space of the deleted segment
    journal.close()


@pytest.mark.skipif(not Path("/sys").is_dir(), reason="only Linux has a folder that even the superuser cannot write in")
@pytest.mark.parametrize("folder", ["/sys", "/sys/new folder", "/dev/null"])
def test_a_folder_that_cannot_be_written_is_an_error_with_a_hint(folder: str) -> None:
    prefix = Path(folder) / "w.journal"
    journal = Journal(prefix, HEADER)
    for _ in range(2):
        with pytest.raises(WarehouseError, match=r"^cannot use the journal .*/w\.journal: ") as caught:
            journal.append(response(0))
        assert caught.value.exit_code == 4
        assert f"make {folder} a folder that this user can read and write (" in caught.value.hint
    journal.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_user_without_access_to_the_folder_gets_an_error_with_a_hint(tmp_path: Path) -> None:
    prefix = tmp_path / "w.journal"
    Journal(prefix, HEADER).append(response(0))
    tmp_path.chmod(0o700)
    program = f"""
import os
from pathlib import Path
from etl.errors import WarehouseError
from etl.extract.journal import read_journals
os.setuid(65534)
try:
    read_journals(Path({str(prefix)!r}))
except WarehouseError as error:
    print(error.message, error.hint, sep="; ")
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.startswith(
        f"cannot use the journal {prefix}: Permission denied; free disk space, or make {tmp_path} "
    )
