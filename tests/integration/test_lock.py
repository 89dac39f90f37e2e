"""One sync per account at a time, whatever the names of the warehouse and the account."""

import logging
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from datetime import UTC, datetime
from pathlib import Path

import pytest

from etl.clock import Clock
from etl.errors import WarehouseError, WarehouseLockedError
from etl.load.lock import account_lock
from etl.warehouse.engine import open_warehouse, warehouse_url
from tests.postgres import new_database, run_sql


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of a warehouse on either engine."""
    return new_database() if request.param == "postgresql" else warehouse_url(str(tmp_path / "warehouse.duckdb"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def locked(file: Path, account: str = "default") -> AbstractContextManager[None]:
    return account_lock(warehouse_url(str(file)), account, Clock(), wait=0)


def test_a_link_to_the_warehouse_shares_the_lock_of_the_file(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.duckdb"
    link.symlink_to(file)
    open_warehouse(warehouse_url(str(link)))
    assert file.is_file()
    with (
        locked(file),
        pytest.raises(WarehouseLockedError),
        locked(link),
    ):
        pass
    assert list(link.parent.iterdir()) == [link]


def test_opening_a_link_writes_only_beside_the_file_itself(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.duckdb"
    link.symlink_to(file)
    with open_warehouse(f"duckdb:///{link}").begin() as connection:
        connection.exec_driver_sql("create table t as select 1 as n")
        assert list(link.parent.iterdir()) == [link]
    with open_warehouse(f"duckdb:///{file}", read_only=True).connect() as connection:
        assert connection.exec_driver_sql("from t").scalar_one() == 1


def test_accounts_with_very_long_names_have_separate_locks(file: Path) -> None:
    long = "\N{GREEK SMALL LETTER ALPHA}" * 300
    with (
        locked(file, f"{long}1"),
        locked(file, f"{long}2"),
        locked(file),
        pytest.raises(WarehouseLockedError, match=f"account {long}1 is running"),
        locked(file, f"{long}1"),
    ):
        pass
    with locked(file, f"{long}1"):
        pass


def _folder_with_its_name(file: Path) -> Path:
    (file.parent / f"{file.name}.default.lock").mkdir()
    return file


def _name_too_long(file: Path) -> Path:
    return file.with_name("w" * 250)


def _read_only_folder(_: Path) -> Path:
    return Path("/sys/warehouse.duckdb")  # the superuser cannot either


_HAS_SYS = pytest.mark.skipif(
    not Path("/sys").is_dir(), reason="only Linux has a folder that even the superuser cannot write in"
)


@pytest.mark.parametrize(
    "broken", [_folder_with_its_name, _name_too_long, pytest.param(_read_only_folder, marks=_HAS_SYS)]
)
def test_a_lock_that_cannot_be_created_is_a_warehouse_error_with_a_hint(
    file: Path, broken: Callable[[Path], Path]
) -> None:
    with pytest.raises(WarehouseError) as caught, locked(broken(file)):
        pass
    assert caught.value.exit_code == 4
    assert "cannot lock" in caught.value.message
    assert caught.value.hint


def test_a_sync_waits_for_another_one_and_logs_it_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    sleeps: list[float] = []
    with ExitStack() as other:
        other.enter_context(
            account_lock(url, "default", Clock(now=lambda: datetime(2026, 3, 1, 3, 15, tzinfo=UTC)), wait=0)
        )

        def sleep(seconds: float) -> None:
            sleeps.append(seconds)
            if len(sleeps) == 3:
                other.close()

        with (
            caplog.at_level(logging.INFO, "etl"),
            account_lock(url, "default", Clock(monotonic=lambda: sum(sleeps), sleep=sleep), wait=10),
        ):
            pass
    assert sleeps == [1, 1, 1]
    [message] = caplog.messages
    assert message.startswith("another sync of account default is running (")
    assert f"PID {os.getpid()}" in message
    assert re.search(r", since 20\d\d-\d\d-\d\d \d\d:\d\d UTC\); waiting for it, at most 10 s$", message)
    assert url.startswith("postgresql") or "since 2026-03-01 03:15 UTC" in message


def test_waiting_ends_after_the_given_seconds_and_names_the_other_program(url: str) -> None:
    sleeps: list[float] = []
    clock = Clock(monotonic=lambda: sum(sleeps), sleep=sleeps.append)
    other = account_lock(url, "default", Clock(), wait=0)
    with other, pytest.raises(WarehouseLockedError, match=f"PID {os.getpid()}") as caught:
        account_lock(url, "default", clock, wait=2.5).__enter__()
    assert sleeps == [1, 1, 0.5]
    assert (caught.value.exit_code, "--lock-wait" in caught.value.hint) == (4, True)


def test_an_empty_lock_file_names_no_program(file: Path) -> None:
    with locked(file):
        next(file.parent.glob("*.lock")).write_text("")
        with (
            pytest.raises(WarehouseLockedError, match="account default is running; no requests were sent"),
            locked(file),
        ):
            pass


# ---------------------------------------------------------------- on a server


@pytest.mark.server
def test_each_account_and_each_database_has_its_own_lock() -> None:
    url, other = new_database(), new_database()
    with (
        account_lock(url, "a", Clock(), wait=0),
        account_lock(url, "b", Clock(), wait=0),
        account_lock(other, "a", Clock(), wait=0),
        pytest.raises(WarehouseLockedError, match="account a is running"),
        account_lock(url, "a", Clock(), wait=0),
    ):
        pass
    with account_lock(url, "a", Clock(), wait=0):
        pass


@pytest.mark.server
def test_the_lock_of_a_killed_program_is_free() -> None:
    url = new_database()
    with account_lock(url, "a", Clock(), wait=0):
        run_sql(url, "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        with account_lock(url, "a", Clock(), wait=5):
            pass


@pytest.mark.server
def test_a_locked_account_leaves_no_transaction_open() -> None:
    url = new_database()
    with account_lock(url, "a", Clock(), wait=0):
        [(state,)] = run_sql(url, "select state from pg_stat_activity where application_name like 'anticaptcha-etl%'")
        assert state == "idle"
