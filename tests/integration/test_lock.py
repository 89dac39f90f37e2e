"""One sync of an account at a time, whatever the warehouse and the account are called."""

from collections.abc import Callable
from pathlib import Path

import pytest

from etl.errors import WarehouseError, WarehouseLockedError
from etl.load.lock import one_sync
from etl.warehouse.engine import open_warehouse, warehouse_path, warehouse_url


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "warehouse.duckdb"


def test_a_link_to_the_warehouse_has_no_lock_of_its_own(file: Path, tmp_path: Path) -> None:
    (tmp_path / "elsewhere").mkdir()
    link = tmp_path / "elsewhere" / "link.duckdb"
    link.symlink_to(file)
    open_warehouse(warehouse_url(str(link)))
    assert file.is_file()
    with (
        one_sync(warehouse_path(warehouse_url(str(file))), "default"),
        pytest.raises(WarehouseLockedError),
        one_sync(warehouse_path(warehouse_url(str(link))), "default"),
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
        one_sync(file, f"{long}1"),
        one_sync(file, f"{long}2"),
        one_sync(file, "default"),
        pytest.raises(WarehouseLockedError, match=f"account {long}1 is running"),
        one_sync(file, f"{long}1"),
    ):
        pass
    with one_sync(file, f"{long}1"):
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
    with pytest.raises(WarehouseError) as problem, one_sync(spoiled(file), "default"):
        pass
    assert problem.value.exit_code == 4
    assert "cannot lock" in problem.value.message
    assert problem.value.remedy
