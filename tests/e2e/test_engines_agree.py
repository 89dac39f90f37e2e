"""Copies, exports, pages and reports of a PostgreSQL warehouse equal those of a DuckDB file with the same rows."""

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
from etl.warehouse.engine import name_of
from tests.e2e.test_history import eventful, sync_nightly
from tests.e2e.world import NOW, ago
from tests.postgres import new_database

pytestmark = pytest.mark.server

AT = Clock(now=lambda: NOW)
VIEWS = [view.name for view in views.public_views()]


class SameRows(NamedTuple):
    """The URLs of a file and of a database that have the same rows."""

    file: str
    server: str


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> SameRows:
    with eventful(tmp_path_factory.mktemp("same_rows")) as world:
        world.sandbox.faults += (Fault(FaultKind.NEGATIVE_VOLUME, rate=0.3),)
        sync_nightly(world)
        world.sync(ips=("192.0.2.10",))
        world.sync(spot_checks=3, balance=True)
        world.rows(
            "insert into internal.alerts values (1, 1, 'stale', 'stale', '', 'old', now(), null, now(), null) returning 1"
        )
        server = new_database()
        transfer(world.warehouse, server, AT, wait=0)
        return SameRows(world.warehouse, server)


def rows_of(file: Path, sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect(file, read_only=True) as connection:
        return connection.execute(sql).fetchall()


def query_files(sql: str) -> list[tuple[Any, ...]]:
    with duckdb.connect() as connection:
        return connection.execute(sql).fetchall()


def test_a_published_copy_has_the_same_rows_and_types(urls: SameRows, tmp_path: Path) -> None:
    copies = [publish(url, tmp_path / f"{number}.duckdb", AT, wait=0, force=True) for number, url in enumerate(urls)]
    assert copies[0].rows == copies[1].rows
    as_of = f"select * from spending_as_of(timestamp '{ago(1)}') order by all"
    for sql in (*(f"from {view} order by all" for view in VIEWS), *(f"describe {view}" for view in VIEWS), as_of):
        one, other = (rows_of(copy.path, sql) for copy in copies)
        assert one == other, sql
    assert all(copies[0].rows[view] for view in VIEWS)


@pytest.mark.parametrize("form", ["parquet", "csv"])
def test_an_export_has_the_same_files_with_the_same_rows(urls: SameRows, tmp_path: Path, form: Format) -> None:
    folders = [tmp_path / f"{number}" for number in range(len(urls))]
    for url, folder in zip(urls, folders, strict=True):
        export(url, folder, form, AT, wait=0)
    one, other = (
        {file.relative_to(folder): file for file in folder.rglob("*") if file.is_file()} for folder in folders
    )
    assert one.keys() == other.keys() > {Path(MANIFEST)}
    for name in one:
        if name.suffix == ".parquet":
            assert query_files(f"from '{one[name]}'") == query_files(f"from '{other[name]}'")
        else:
            assert one[name].read_text() == other[name].read_text()


@pytest.mark.parametrize("view", VIEWS)
def test_a_query_writes_the_same_parquet_file(urls: SameRows, tmp_path: Path, view: str) -> None:
    files = [tmp_path / f"{number}.parquet" for number in range(2)]
    for url, file in zip(urls, files, strict=True):
        write_parquet(url, f"select * from {view}", file)
    one, other = (query_files(f"from '{file}' order by all") for file in files)
    assert one == other
    assert one
    types, others = (query_files(f"describe from '{file}'") for file in files)
    assert types == others


def _page(url: str) -> str:
    return render_page(load_report(url, "default", 30, AT, wait=0), lambda: "draw()")


def _status(url: str) -> str:
    return status.to_json(status.load_status(url, None, AT))


def _check(url: str) -> str:
    return check_report.to_json(check_report.run_checks(url, None, None, AT, wait=0))


@pytest.mark.parametrize("output", [_page, _status, _check])
def test_pages_and_reports_are_the_same(urls: SameRows, output: Callable[[str], str]) -> None:
    one, other = (output(url).replace(name_of(url), "W").replace(Path(name_of(url)).name, "W") for url in urls)
    assert one == other
