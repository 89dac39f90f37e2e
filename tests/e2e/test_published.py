"""A sync replaces the published copy for BI tools; if that fails, it reports it and the data is still loaded."""

import stat
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import duckdb
import pytest

from etl.sandbox.dataset import Dataset
from tests.e2e.world import KEY, WITHOUT_RETRIES, World


@contextmanager
def world(folder: Path) -> Iterator[World]:
    (folder / "bi").mkdir()
    now = datetime.now(UTC)  # the command uses the real time
    spending = Dataset.always_active(begins=now.date() - timedelta(days=3), queues=2)
    with World(folder, spending, WITHOUT_RETRIES, now=now) as world:
        (folder / "anticaptcha-etl.toml").write_text('publish = "bi"\n')
        yield world


def hours(file: Path) -> list[tuple[object, ...]]:
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute("from spending_hourly order by all").fetchall()


def test_a_sync_publishes_what_it_loaded_without_the_key_and_its_hash(tmp_path: Path) -> None:
    with world(tmp_path) as account:
        assert account.run("sync") == 0
        copy = tmp_path / "bi" / "warehouse.duckdb"
        assert hours(copy) == hours(account.file) != []
        assert stat.S_IMODE(copy.stat().st_mode) == 0o444
        [(salt, hash_key)] = account.rows("select key_salt, key_hash from internal.accounts")
        content = copy.read_bytes()
        assert not [secret for secret in (salt, hash_key, KEY.encode()) if secret in content]
        assert b"errorId" not in content

        first = copy.stat().st_ino
        assert account.run("sync") == 0
        assert copy.stat().st_ino != first  # the copy was replaced
        copy.unlink()
        assert account.run("sync") == 0
        assert copy.exists()


def test_a_failed_publish_ends_with_4_and_says_that_the_data_is_loaded(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world(tmp_path) as account:
        (tmp_path / "bi").rmdir()
        (tmp_path / "bi").write_text("not a folder")
        assert account.run("sync") == 4
        out, err = capsys.readouterr()
        assert "new hourly value" in out
        assert "error: data is loaded, but not published: " in err
        assert hours(account.file)
        (tmp_path / "bi").unlink()
        assert account.run("sync", "--quiet") == 0
        assert capsys.readouterr() == ("", "")
        assert (tmp_path / "bi" / "warehouse.duckdb").exists()


def test_a_failed_blocking_check_keeps_the_previous_copy(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world(tmp_path) as account:
        assert account.run("sync") == 0
        copy = tmp_path / "bi" / "warehouse.duckdb"
        before = copy.read_bytes()
        account.rows(
            "insert into internal.series select 1, 99, dimension, member from internal.series where member is "
            "not null limit 1 returning series_id"
        )
        capsys.readouterr()
        assert account.run("sync") == 5
        err = capsys.readouterr().err
        assert "error: data is loaded, but not published: " in err
        assert "exactly one series" in err
        assert copy.read_bytes() == before
