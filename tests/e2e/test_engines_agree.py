"""What is made from a warehouse on a server is what is made from the file with the same rows: copies, exports, pages,
reports."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import duckdb
import pytest

from etl.clock import Clock
from etl.maintenance.transfer import transfer
from etl.outputs import check_report, status
from etl.outputs.export import MANIFEST, Format, export
from etl.outputs.publish import publish
from etl.outputs.query import write_parquet
from etl.outputs.report.page import render_page
from etl.outputs.report.queries import load_report
from etl.sandbox.behaviour import Fault, FaultKind
from etl.warehouse import views
from etl.warehouse.engine import name_of, open_warehouse
from tests.e2e.test_history import eventful, live
from tests.e2e.world import NOW, ago
from tests.postgres import new_database

pytestmark = pytest.mark.server

AT = Clock(now=lambda: NOW)
VIEWS = [view.name for view in views.public_views()]


class Twins(NamedTuple):
    """The URLs of a file and of a database with the same rows."""

    file: str
    server: str


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    with eventful(tmp_path_factory.mktemp("twins")) as world:
        world.sandbox.faults += (Fault(FaultKind.NEGATIVE_VOLUME, rate=0.3),)
        live(world)
        world.sync(ips=("192.0.2.10",))
        server = new_database()
        transfer(world.warehouse, server, AT, wait=0)
        return Twins(world.warehouse, server)


def asked(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def memory(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def test_a_published_copy_holds_the_same_rows_of_the_same_types(twins: Twins, tmp_path: Path) -> None:
    copies = [publish(url, tmp_path / f"{number}.duckdb", AT, wait=0, force=True) for number, url in enumerate(twins)]
    assert copies[0].rows == copies[1].rows
    of_queues = f"select * from spending_as_of(timestamp '{ago(1)}') order by all"
    for sql in (*(f"from {view} order by all" for view in VIEWS), *(f"describe {view}" for view in VIEWS), of_queues):
        one, other = (asked(copy.path, sql) for copy in copies)
        assert one == other, sql
    assert all(copies[0].rows[view] for view in VIEWS)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_an_export_has_the_same_files_with_the_same_rows(twins: Twins, tmp_path: Path, form: Format) -> None:
    folders = [export(url, tmp_path / f"{number}", form, AT, wait=0).path for number, url in enumerate(twins)]
    one, other = (
        {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()} for folder in folders
    )
    assert one.keys() == other.keys() > {Path(MANIFEST)}
    for name in one:
        if name.suffix == ".parquet":
            assert memory(f"from '{one[name]}'") == memory(f"from '{other[name]}'")
        else:
            assert one[name].read_text() == other[name].read_text()


@pytest.mark.parametrize("view", VIEWS)
def test_a_query_writes_the_same_parquet_of_the_same_types(twins: Twins, tmp_path: Path, view: str) -> None:
    files = [tmp_path / f"{number}.parquet" for number in range(2)]
    for url, file in zip(twins, files, strict=True):
        write_parquet(url, f"select * from {view}", file)
    one, other = (memory(f"from '{file}' order by all") for file in files)
    assert one == other
    assert one
    types, others = (memory(f"describe from '{file}'") for file in files)
    assert types == others


def _page(url: str) -> str:
    return render_page(load_report(url, "default", 30, AT, wait=0), lambda: "draw()")


def _status(url: str) -> str:
    return status.to_json(status.load_status(open_warehouse(url, read_only=True), None, NOW))


def _check(url: str) -> str:
    return check_report.to_json(check_report.run_checks(url, None, None, AT, wait=0))


@pytest.mark.parametrize("told", [_page, _status, _check])
def test_pages_and_reports_say_the_same(twins: Twins, told: Callable[[str], str]) -> None:
    one, other = (told(url).replace(name_of(url), "W").replace(Path(name_of(url)).name, "W") for url in twins)
    assert one == other
