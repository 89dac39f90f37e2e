"""Who may read what the program writes: its own files are their owner's alone, what it makes for its user follows the
umask."""

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

from etl.sandbox.dataset import Dataset
from tests.e2e.world import KEY, World

MADE_FOR_THE_USER = ("answer.csv", "answer.parquet", "report.html", "lake", "sheets")
"""What a command was asked to write; the rest is the program's own."""

PROGRAM = "import os, sys\nos.umask(int(sys.argv.pop(1), 8))\nfrom etl.cli import main\nmain()"


@contextmanager
def _watched(folder: Path) -> Iterator[dict[Path, int]]:
    """The mode of everything that is seen below ``folder`` while the block runs, be it for an instant."""
    seen: dict[Path, int] = {}
    over = threading.Event()

    def look() -> None:
        for top, _, files in os.walk(folder):  # which passes over what is gone again
            for path in (Path(top), *(Path(top, file) for file in files)):
                with suppress(OSError):
                    seen[path] = seen.get(path, 0) | stat.S_IMODE(path.lstat().st_mode)

    def watch() -> None:
        while not over.wait(0.005):
            look()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        look()


@pytest.mark.parametrize(
    "umask", [pytest.param("000", marks=pytest.mark.slow), pytest.param("022", marks=pytest.mark.long)]
)
def test_every_file_is_its_owners_alone_but_for_what_was_made_to_be_read(tmp_path: Path, umask: str) -> None:
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
        World(work, Dataset.busy(begins=now.date() - timedelta(days=2), queues=2), now=now) as world,
        _watched(work) as seen,
        _watched(bi) as shown,
    ):
        environ["ANTICAPTCHA_API_URL"] = world.sandbox.url
        for words in commands:
            done = subprocess.run(
                [sys.executable, "-c", PROGRAM, umask, *words],
                cwd=work,
                env=environ,
                capture_output=True,
                timeout=120,
                check=False,
            )
            assert done.returncode == 0, (words, done.stderr)
    followed = ~int(umask, 8)
    for path, mode in seen.items():
        place = path.relative_to(work).parts
        if place and place[0] in MADE_FOR_THE_USER and path.exists():
            wanted = (0o777 if path.is_dir() else 0o666) & followed
            assert stat.S_IMODE(path.stat().st_mode) == wanted, path
        elif place and place[0] not in MADE_FOR_THE_USER and not any(name.endswith(".draft") for name in place[:-1]):
            assert not mode & 0o077, (path, oct(mode))
    assert {path.name for path in seen} >= {"warehouse.duckdb", "warehouse.duckdb.default.lock", *MADE_FOR_THE_USER}
    assert stat.S_IMODE((bi / "warehouse.duckdb").stat().st_mode) == 0o444
    assert {path.name for path in bi.iterdir()} == {"warehouse.duckdb"}
    assert not any(mode & 0o077 for path, mode in shown.items() if path.name.endswith(".draft"))


def test_what_a_large_query_spills_is_its_owners_alone(tmp_path: Path) -> None:
    """DuckDB spills beside the warehouse what it sorts beyond its memory, which a query cannot limit: that is done
    here."""
    file = tmp_path / "warehouse.duckdb"
    duckdb.connect(file).close()
    program = (
        "import etl.warehouse.duckdb as duck\nduck._SEALED |= {'memory_limit': '60MB', 'threads': '1'}\n" + PROGRAM
    )
    sql = "select max(b) from (select repeat('x', 50) || range as b from range(3000000) order by b limit 2900000)"
    with _watched(tmp_path) as seen:
        done = subprocess.run(
            [sys.executable, "-c", program, "000", "query", sql, "--warehouse", str(file)],
            env={},
            capture_output=True,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    spilled = {path: mode for path, mode in seen.items() if "warehouse.duckdb.tmp" in path.parts}
    assert spilled
    assert not any(mode & 0o077 for mode in spilled.values()), spilled
