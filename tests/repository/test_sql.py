"""Every SQL file has the required form and uses only SQL that both engines understand."""

import re
import tomllib
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory

from etl.warehouse import checks, migrate, views
from etl.warehouse.package_files import folder
from etl.warehouse.schema import metadata

VIEWS = sorted((folder("sql") / "views").glob("*.sql"))
CHECKS = sorted((folder("sql") / "checks").glob("*.sql"))
COOKBOOK = sorted((folder("sql") / "cookbook").glob("*.sql"))
FUNCTIONS = sorted((folder("sql") / "functions").glob("*.sql"))
ROOT = folder("sql").parent
DUCKDB_ALONE = [
    "arg_max",
    "arg_min",
    "group by all",
    "order by all",
    "qualify",
    "try_cast",
    "::",
    "exclude",
    "//",
    "list(",
    "struct",
]


def bare(sql: str) -> str:
    """Return the SQL without comments, string literals and quoted names."""
    return re.sub(r"'[^']*'|\"[^\"]*\"", "''", re.sub(r"--.*", "", sql))


def test_every_key_and_index_begins_with_the_account() -> None:
    for table in metadata.tables.values():
        if "account_id" not in table.columns:
            continue
        keys = [[*table.primary_key.columns], *([*index.columns] for index in table.indexes)]
        assert {columns[0].name for columns in keys if columns} == {"account_id"}, table.name


@pytest.mark.parametrize("file", [*VIEWS, *CHECKS, *COOKBOOK, *FUNCTIONS], ids=lambda file: file.stem)
def test_every_join_carries_the_account(file: Path) -> None:
    ends = r"\bjoin\b|\bwhere\b|\bgroup\b|\border\b|\bunion\b|;|\n\)|\Z"
    joins = re.findall(rf"(?<!cross )\bjoin\b(.*?)(?={ends})", bare(file.read_text()), re.DOTALL)
    assert not [join for join in joins if "account" not in re.split(r"\son\s", join)[-1]]


def test_citus_file_distributes_every_table_of_accounts() -> None:
    distributed = set(re.findall(r"'(internal\.\w+)'", (ROOT / "deploy" / "citus.sql").read_text()))
    assert distributed == {name for name, table in metadata.tables.items() if "account_id" in table.columns}


def test_views_of_the_contract_exist() -> None:
    public = {
        "spending_hourly", "spending_daily", "spending_monthly", "spending_total_hourly",
        "coverage_daily", "spending_revisions", "spending_rejections", "spending_by_app_daily", "spending_by_ip_daily",
        "reconciliation_hourly", "sync_runs", "spot_checks", "balance_history", "runway",
    }  # fmt: skip
    assert public <= {file.stem for file in VIEWS}


@pytest.mark.parametrize("file", VIEWS, ids=lambda file: file.stem)
def test_view_file_begins_with_its_grain_and_creates_the_view_of_its_name(file: Path) -> None:
    sql = file.read_text()
    assert sql.startswith("-- one row per ")
    assert re.search(rf"^create view (internal\.)?{file.stem} as$", sql, re.MULTILINE)
    assert sql.endswith(";\n")


@pytest.mark.parametrize("file", CHECKS, ids=lambda file: file.stem)
def test_check_is_one_select_with_sentence_severity_and_hint(file: Path) -> None:
    check = checks.parse(file.stem, file.read_text())
    assert list(views.head(check.sql)[1]) == ["severity", "remedy"]
    assert check.sentence
    assert not (check.sentence + check.hint).endswith(".")
    assert re.match(r"select\b|with\b", bare(check.sql).strip())
    assert check.sql.endswith(";\n")
    assert bare(check.sql).count(";") == 1


@pytest.mark.parametrize("file", COOKBOOK, ids=lambda file: file.stem)
def test_saved_query_is_one_portable_select_with_grain_and_reason(file: Path) -> None:
    grain, gap, why, *_ = file.read_text().splitlines()
    assert grain.startswith("-- one row per ")
    assert not grain.endswith(".")
    assert gap == "--"
    assert re.match(r"-- \S", why)
    sql = bare(file.read_text())
    assert re.match(r"select\b|with\b", sql.strip())
    assert sql.endswith(";\n")
    assert sql.count(";") == 1
    assert [
        word
        for word in (":now", ":since", "now()", "current_", "select *", "double", "float", "hugeint")
        if word in sql
    ] == []


@pytest.mark.parametrize("file", COOKBOOK, ids=lambda file: file.stem)
def test_saved_query_reads_only_public_views(file: Path) -> None:
    """One query reads tables, because no view shows the snapshot behind a number."""
    sql = re.sub(r"extract\(\w+ from", "", bare(file.read_text()))
    named = {*re.findall(r"\b(?:from|join) ([\w.]+)", sql)}
    own = {*re.findall(r"(\w+) as \(", sql)}
    tables = set(metadata.tables)
    public = {view.stem for view in VIEWS} | {"spending_as_of", "generate_series"}
    assert named
    assert named - own <= (tables if file.stem == "where_a_number_came_from" else public)


@pytest.mark.parametrize("file", [*VIEWS, *CHECKS, *COOKBOOK], ids=lambda file: file.stem)
def test_sql_is_lower_case_and_portable(file: Path) -> None:
    sql = bare(file.read_text())
    assert sql == sql.lower()
    assert [word for word in DUCKDB_ALONE if word in sql] == []
    assert max(map(len, file.read_text().splitlines())) <= 132


def test_view_comes_after_the_views_it_uses() -> None:
    b = views.parse("b", "-- one row per x, see a\ncreate view b as select * from c;")
    c = views.parse("c", "create view c as select 1;")
    a = views.parse("a", "create view a as select * from b;")
    assert [view.name for view in views.in_order([a, b, c])] == ["c", "b", "a"]


def test_view_comments_come_from_the_leading_comment_only() -> None:
    view = views.parse(
        "v",
        "-- one row per day:\n-- of the year\n--\n-- day: the day,\n-- in UTC\n-- money: dollars\nselect 1 -- "
        "no: column\n",
    )
    assert view.comment == "one row per day: of the year"
    assert view.columns == {"day": "the day, in UTC", "money": "dollars"}


def test_revisions_from_file_names_match_alembic() -> None:
    config = Config()
    config.set_main_option("script_location", str(folder("migrations")))
    script = ScriptDirectory.from_config(config)
    assert migrate.revisions() == [step.revision for step in script.walk_revisions()][::-1]
    assert migrate.revisions()[-1:] == script.get_heads()


def test_wheel_includes_migrations_and_sql() -> None:
    project = tomllib.loads((folder("sql").parent / "pyproject.toml").read_text())
    included = project["tool"]["hatch"]["build"]["targets"]["wheel"]["force-include"]
    assert included == {"migrations": "etl/migrations", "sql": "etl/sql"}
