"""``query --list`` and ``query @cookbook/NAME``, as they are typed."""

from pathlib import Path

import pytest
import sqlalchemy as sa

from etl.cli import run
from etl.config import Environment
from etl.warehouse.package_files import folder
from etl.warehouse.schema import accounts, facts, series
from tests.integration.conftest import Insert


@pytest.fixture
def place(warehouse: sa.Engine, insert: Insert, tmp_path: Path) -> Environment:
    """Beside a warehouse of two queues with one hour each."""
    insert(accounts, {"account_id": 1, "name": "default"})
    for number, queue in enumerate(("FunCaptcha", "Square Net Task"), 1):
        insert(series, {"account_id": 1, "series_id": number, "dimension": "queue", "member": queue})
        insert(facts, {"account_id": 1, "series_id": number, "volume": 1000 * number, "money": number})
    return Environment({}, tmp_path)


BY_MONTH = """account,month,queue,volume,money,price_per_1000,is_final
default,2026-01-01,Square Net Task,2000,2.000000000,1.000000000,false
default,2026-01-01,FunCaptcha,1000,1.000000000,1.000000000,false
"""


def test_the_list_has_every_query_with_its_first_comment(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query", "--list"], Environment({}, tmp_path)) == 0
    listed = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    files = sorted((folder("sql") / "cookbook").glob("*.sql"))
    assert listed == [[file.stem, file.read_text().splitlines()[0].removeprefix("-- ")] for file in files]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argument", ["@cookbook/spend_by_month_and_queue", "@cookbook/spend_by_month_and_queue.sql"])
def test_a_cookbook_query_runs_by_name_in_every_format(
    place: Environment, argument: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", argument, "--format", "csv"], place) == 0
    assert capsys.readouterr().out == BY_MONTH
    assert run(["query", argument, "-o", "months.csv"], place) == 0
    assert (place.folder / "months.csv").read_text() == BY_MONTH
    assert run(["query", argument, "--format", "json"], place) == 0
    assert '"queue": "FunCaptcha", "volume": 1000, "money": 1.000000000' in capsys.readouterr().out
    assert run(["query", argument], place) == 0
    assert "(2 rows)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("forecast", "did you mean month_to_date_with_forecast?"),
        ("hour_of_weak_patern", "did you mean hour_of_week_pattern?"),
        ("../checks/days_sum_up_their_hours", "--list"),
        ("", "--list"),
    ],
)
def test_an_unknown_name_is_refused_with_similar_names(
    place: Environment, name: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", f"@cookbook/{name}"], place) == 2
    output = capsys.readouterr()
    assert output.out == ""
    assert f"the cookbook has no query {name!r}" in output.err
    assert meant in output.err


def test_an_existing_file_wins_over_a_cookbook_query(place: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / "cookbook").mkdir()
    (place.folder / "cookbook" / "spend_by_month_and_queue").write_text("select 7 as mine")
    assert run(["query", "@cookbook/spend_by_month_and_queue", "--format", "csv"], place) == 0
    assert capsys.readouterr().out == "mine\n7\n"


def test_query_without_sql_lists_the_possible_arguments(place: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query"], place) == 2
    assert "@cookbook/NAME" in capsys.readouterr().err
