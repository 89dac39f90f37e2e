"""File modes: the program's own files are private to their owner; output files that the user asked for follow the umask."""

import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from etl import cli
from etl.config import Environment
from etl.sandbox.dataset import Dataset
from tests.e2e.world import KEY, WITHOUT_RETRIES, World

OUTPUT_FILES = ("answer.csv", "answer.parquet", "report.html", "lake", "sheets")
"""Output files that the user asked for; all others are the program's own."""

PROGRAM = "import os, sys\nos.umask(int(sys.argv.pop(1), 8))\nfrom etl.cli import main\nmain()"


@contextmanager
def _watched(folder: Path) -> Iterator[dict[Path, int]]:
    """Collect the modes of all files that exist below ``folder`` at any time while the block runs."""
    seen: dict[Path, int] = {}
    stopped = threading.Event()

    def look() -> None:
        for top, _, files in os.walk(folder):  # skips what no longer exists
            for path in (Path(top), *(Path(top, file) for file in files)):
                with suppress(OSError):
                    seen[path] = seen.get(path, 0) | stat.S_IMODE(path.lstat().st_mode)

    def watch() -> None:
        while not stopped.wait(0.005):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        stopped.set()
        thread.join()
        look()


@pytest.mark.parametrize(
    "umask", [pytest.param("000", marks=pytest.mark.slow), pytest.param("022", marks=pytest.mark.long)]
)
def test_files_are_private_except_output_files(tmp_path: Path, umask: str) -> None:
    now = datetime.now(UTC)
    work, bi = tmp_path / "work", tmp_path / "bi"
    work.mkdir(0o755)
    bi.mkdir(0o755)
    environ = {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_PUBLISH": str(bi)}
    environ |= {"ANTICAPTCHA_RATE": "0", "ANTICAPTCHA_EMPTY_DAYS": "2"}
    commands = (
        ["sync"], ["replay"], ["migrate", "--down", "--to", "0003"], ["migrate"], ["sync"], ["publish"],
        ["status"], ["check"], ["doctor"],
        ["query", "from spending_daily", "-o", "answer.csv"], ["query", "from spending_daily", "-o", "answer.parquet"],
        ["report", "-o", "report.html"], ["export", "lake"], ["export", "lake"], ["export", "sheets", "--format", "csv"],
    )  # fmt: skip
    with (
        World(
            work, Dataset.always_active(begins=now.date() - timedelta(days=2), queues=2), WITHOUT_RETRIES, now=now
        ) as world,
        _watched(work) as seen,
        _watched(bi) as seen_in_bi,
    ):
        environ["ANTICAPTCHA_API_URL"] = world.sandbox.url
        before = os.umask(int(umask, 8))
        try:
            for arguments in commands:
                assert cli.run(arguments, Environment(environ, work)) == 0, arguments
        finally:
            os.umask(before)
    allowed = ~int(umask, 8)
    for path, mode in seen.items():
        place = path.relative_to(work).parts
        if place and place[0] in OUTPUT_FILES and path.exists():
            expected = (0o777 if path.is_dir() else 0o666) & allowed
            assert stat.S_IMODE(path.stat().st_mode) == expected, path
        elif place and place[0] not in OUTPUT_FILES and not any(name.endswith(".draft") for name in place[:-1]):
            assert not mode & 0o077, (path, oct(mode))
    assert {path.name for path in seen} >= {"warehouse.duckdb", "warehouse.duckdb.default.lock", *OUTPUT_FILES}
    assert stat.S_IMODE((bi / "warehouse.duckdb").stat().st_mode) == 0o444
    assert {path.name for path in bi.iterdir()} == {"warehouse.duckdb"}
    assert not any(mode & 0o077 for path, mode in seen_in_bi.items() if path.name.endswith(".draft"))


def test_temporary_files_of_a_large_query_are_private(tmp_path: Path) -> None:
    """DuckDB writes temporary files beside the warehouse when a sort exceeds its memory, which this test limits."""
    file = tmp_path / "warehouse.duckdb"
    duckdb.connect(file).close()
    program = (
        "import etl.warehouse.duckdb as duck\nduck._SEALED |= {'memory_limit': '60MB', 'threads': '1'}\n" + PROGRAM
    )
    sql = "select max(b) from (select repeat('x', 50) || range as b from range(3000000) order by b limit 2900000)"
    with _watched(tmp_path) as seen:
        finished = subprocess.run(
            [sys.executable, "-c", program, "000", "query", sql, "--warehouse", str(file)],
            env={},
            capture_output=True,
            check=False,
        )
    assert finished.returncode == 0, finished.stderr
    spilled = {path: mode for path, mode in seen.items() if "warehouse.duckdb.tmp" in path.parts}
    assert spilled
    assert not any(mode & 0o077 for mode in spilled.values()), spilled
