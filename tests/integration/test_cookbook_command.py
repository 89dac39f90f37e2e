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


def test_a_list_names_every_recipe_and_what_a_row_of_its_answer_is(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", "--list"], Environment({}, tmp_path)) == 0
    told = [line.split(maxsplit=1) for line in capsys.readouterr().out.splitlines()]
    files = sorted((folder("sql") / "cookbook").glob("*.sql"))
    assert told == [[file.stem, file.read_text().splitlines()[0].removeprefix("-- ")] for file in files]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("said", ["@cookbook/spend_by_month_and_queue", "@cookbook/spend_by_month_and_queue.sql"])
def test_a_recipe_is_run_by_its_name_and_written_as_any_answer(
    place: Environment, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", said, "--format", "csv"], place) == 0
    assert capsys.readouterr().out == BY_MONTH
    assert run(["query", said, "-o", "months.csv"], place) == 0
    assert (place.folder / "months.csv").read_text() == BY_MONTH
    assert run(["query", said, "--format", "json"], place) == 0
    assert '"queue": "FunCaptcha", "volume": 1000, "money": 1.000000000' in capsys.readouterr().out
    assert run(["query", said], place) == 0
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
def test_a_wrong_name_is_refused_with_names_that_come_close(
    place: Environment, name: str, meant: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["query", f"@cookbook/{name}"], place) == 2
    said = capsys.readouterr()
    assert said.out == ""
    assert f"the cookbook has no query {name!r}" in said.err
    assert meant in said.err


def test_a_file_of_ones_own_comes_before_a_recipe(place: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    (place.folder / "cookbook").mkdir()
    (place.folder / "cookbook" / "spend_by_month_and_queue").write_text("select 7 as mine")
    assert run(["query", "@cookbook/spend_by_month_and_queue", "--format", "csv"], place) == 0
    assert capsys.readouterr().out == "mine\n7\n"


def test_a_query_without_sql_says_what_to_give(place: Environment, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["query"], place) == 2
    assert "@cookbook/NAME" in capsys.readouterr().err
