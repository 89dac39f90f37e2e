"""Memory stays bounded for responses and histories of any length."""

import socket
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from etl.extract.client import MAX_BODY_BYTES
from etl.sandbox.dataset import Dataset
from tests.e2e.world import KEY, SYNC_ONCE, World, ago, small
from tests.integration.scripted_server import Script, serving

MEGABYTE = 2**20
GIGABYTE = 2**30
PROCESS_STATUS = Path("/proc/self/status")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not PROCESS_STATUS.exists(), reason="reads the peak memory of a process from /proc"),
]

PROGRAM = """
import runpy, sys
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__")
finally:
    [peak] = [line for line in open("/proc/self/status") if line.startswith("VmHWM")]
    print(int(peak.split()[1]) * 1024)
"""


def _peak(world: World, url: str, code: int, concurrency: int = 4) -> int:
    """Return the peak memory in bytes of a sync in a process of its own; it must end with exit code ``code``."""
    arguments = [str(SYNC_ONCE), str(world.folder), url, world.now.isoformat(), str(concurrency)]
    finished = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={"ANTICAPTCHA_CLIENT_KEY": KEY, "PYTHONPATH": str(Path(__file__).resolve().parents[2])},
    )
    assert finished.returncode == code, finished.stderr
    return int(finished.stdout)


# ---------------------------------------------------------------- responses


def _send_all(head: bytes, pieces: Callable[[], Iterator[bytes]], sent: list[int]) -> Script:
    """Send a gigabyte, as far as the client reads it, and count the bytes that were sent."""

    def send(peer: socket.socket) -> None:
        peer.sendall(b"HTTP/1.1 200 OK\r\n" + head + b"\r\n")
        sent.append(0)
        for piece in pieces():
            peer.sendall(piece)
            sent[-1] += len(piece)

    return send


def _spaces() -> Iterator[bytes]:
    yield b'{"errorId":0,"data":['
    for _ in range(GIGABYTE // 2**16):
        yield b" " * 2**16


def _compressed_spaces() -> Iterator[bytes]:
    compress = zlib.compressobj(wbits=31)
    for piece in _spaces():
        if compressed_body := compress.compress(piece):
            yield compressed_body
    yield compress.flush()


RESPONSES = {
    "as long as it says": (f"Content-Length: {GIGABYTE + 21}\r\n".encode(), _spaces),
    "without an end": (b"", _spaces),
    "packed into a megabyte": (b"Content-Encoding: gzip\r\n", _compressed_spaces),
}


@pytest.mark.parametrize("name", RESPONSES)
def test_a_response_of_a_gigabyte_is_rejected_with_little_memory(name: str, tmp_path: Path) -> None:
    head, pieces = RESPONSES[name]
    (tmp_path / "short").mkdir()
    (tmp_path / "long").mkdir()
    with World(tmp_path / "short", small(days=3)) as world:
        usual_peak = _peak(world, world.sandbox.url, code=0)
    sent: list[int] = []
    with World(tmp_path / "long", small(days=3)) as world:
        # The retry is refused because of the key, which ends the sync: six attempts would take half a minute.
        refused = b'{"errorId":1,"errorCode":"ERROR_KEY_DOES_NOT_EXIST","errorDescription":""}'
        end = b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s" % (len(refused), refused)
        with serving(_send_all(head, pieces, sent), lambda peer: peer.sendall(end)) as server:
            peak = _peak(world, server.url, code=3)
    assert peak < usual_peak + 16 * MEGABYTE
    assert sent[0] < MAX_BODY_BYTES + 16 * MEGABYTE  # bytes still in socket buffers were not read


# ---------------------------------------------------------------- histories


@pytest.mark.long
def test_memory_does_not_grow_with_the_history(tmp_path: Path) -> None:
    short, long = 60, 360
    peaks = {}
    for days in (short, long):
        folder = tmp_path / str(days)
        folder.mkdir()
        with World(folder, Dataset.always_active(begins=ago(days - 1), queues=5)) as world:
            peaks[days] = _peak(world, world.sandbox.url, code=0, concurrency=8)
    # 20 MB per 1,000 days of 5 queues were measured, nearly all of it DuckDB's own; from run to run a peak
    # differs by 15 MB.
    assert peaks[long] - peaks[short] < 30 * MEGABYTE
