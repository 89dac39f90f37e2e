"""One sync of an account at a time, whatever the warehouse and the account are called."""

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
from tests.postgres import ask, new_database


@pytest.fixture(params=["duckdb", pytest.param("postgresql", marks=pytest.mark.server)])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Of a warehouse on either engine."""
    return new_database() if request.param == "postgresql" else warehouse_url(str(tmp_path / "warehouse.duckdb"))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def held(file: Path, account: str = "default") -> AbstractContextManager[None]:
    return account_lock(warehouse_url(str(file)), account, Clock(), wait=0)


def test_a_link_to_the_warehouse_has_no_lock_of_its_own(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.duckdb"
    link.symlink_to(file)
    open_warehouse(warehouse_url(str(link)))
    assert file.is_file()
    with (
        held(file),
        pytest.raises(WarehouseLockedError),
        held(link),
    ):
        pass
    assert list(link.parent.iterdir()) == [link]


def test_by_a_link_what_is_written_lies_beside_the_file_itself(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.duckdb"
    link.symlink_to(file)
    with open_warehouse(f"duckdb:///{link}").begin() as connection:
        connection.exec_driver_sql("create table t as select 1 as n")
        assert list(link.parent.iterdir()) == [link]
    with open_warehouse(f"duckdb:///{file}", read_only=True).connect() as connection:
        assert connection.exec_driver_sql("from t").scalar_one() == 1


def test_accounts_with_very_long_names_have_locks_of_their_own(file: Path) -> None:
    long = "\N{GREEK SMALL LETTER ALPHA}" * 300
    with (
        held(file, f"{long}1"),
        held(file, f"{long}2"),
        held(file),
        pytest.raises(WarehouseLockedError, match=f"account {long}1 is running"),
        held(file, f"{long}1"),
    ):
        pass
    with held(file, f"{long}1"):
        pass


def _a_folder_in_its_place(file: Path) -> Path:
    (file.parent / f"{file.name}.default.lock").mkdir()
    return file


def _a_name_too_long(file: Path) -> Path:
    return file.with_name("w" * 250)


def _no_folder_to_write_in(_: Path) -> Path:
    return Path("/sys/warehouse.duckdb")  # the superuser cannot either


_HAS_SYS = pytest.mark.skipif(not Path("/sys").is_dir(), reason="a folder that nobody can write in is Linux's")


@pytest.mark.parametrize(
    "spoiled", [_a_folder_in_its_place, _a_name_too_long, pytest.param(_no_folder_to_write_in, marks=_HAS_SYS)]
)
def test_a_lock_that_cannot_be_had_is_a_problem_of_the_warehouse_with_its_remedy(
    file: Path, spoiled: Callable[[Path], Path]
) -> None:
    with pytest.raises(WarehouseError) as problem, held(spoiled(file)):
        pass
    assert problem.value.exit_code == 4
    assert "cannot lock" in problem.value.message
    assert problem.value.hint


def test_a_sync_that_ends_in_time_is_waited_for_and_named_once(url: str, caplog: pytest.LogCaptureFixture) -> None:
    naps: list[float] = []
    with ExitStack() as other:
        other.enter_context(
            account_lock(url, "default", Clock(now=lambda: datetime(2026, 3, 1, 3, 15, tzinfo=UTC)), wait=0)
        )

        def sleep(seconds: float) -> None:
            naps.append(seconds)
            if len(naps) == 3:
                other.close()

        with (
            caplog.at_level(logging.INFO, "etl"),
            account_lock(url, "default", Clock(monotonic=lambda: sum(naps), sleep=sleep), wait=10),
        ):
            pass
    assert naps == [1, 1, 1]
    [said] = caplog.messages
    assert said.startswith("another sync of account default is running (")
    assert f"PID {os.getpid()}" in said
    assert re.search(r", since 20\d\d-\d\d-\d\d \d\d:\d\d UTC\); waiting for it, at most 10 seconds$", said)
    assert url.startswith("postgresql") or "since 2026-03-01 03:15 UTC" in said


def test_waiting_ends_when_its_seconds_are_over_and_says_who_is_in_the_way(url: str) -> None:
    naps: list[float] = []
    clock = Clock(monotonic=lambda: sum(naps), sleep=naps.append)
    other = account_lock(url, "default", Clock(), wait=0)
    with other, pytest.raises(WarehouseLockedError, match=f"PID {os.getpid()}") as problem:
        account_lock(url, "default", clock, wait=2.5).__enter__()
    assert naps == [1, 1, 0.5]
    assert (problem.value.exit_code, "--lock-wait" in problem.value.hint) == (4, True)


def test_a_file_that_says_nothing_of_its_holder_names_none(file: Path) -> None:
    with held(file):
        next(file.parent.glob("*.lock")).write_text("")
        with pytest.raises(WarehouseLockedError, match="account default is running; no requests were sent"), held(file):
            pass


# ---------------------------------------------------------------- on a server


@pytest.mark.server
def test_accounts_have_locks_of_their_own_and_databases_too() -> None:
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
def test_the_lock_of_a_program_that_is_gone_is_nobodys() -> None:
    url = new_database()
    with account_lock(url, "a", Clock(), wait=0):
        ask(url, "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory'")
        with account_lock(url, "a", Clock(), wait=5):
            pass


@pytest.mark.server
def test_who_waits_keeps_no_transaction_open() -> None:
    url = new_database()
    with account_lock(url, "a", Clock(), wait=0):
        [(state,)] = ask(url, "select state from pg_stat_activity where application_name like 'anticaptcha-etl%'")
        assert state == "idle"
