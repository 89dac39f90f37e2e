"""Every command prints its result with --json in the form that ``docs/reference/schemas.json`` describes."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker

from tests.e2e.test_all import world_today
from tests.e2e.world import World
from tools import json_schemas
from tools.reference import commands

SCHEMAS = json.loads(json_schemas.FILE.read_text("utf-8"))
WITHOUT_RESULT = {"demo", "sandbox", "init", "mcp"}
"""Commands that print results of others, or run until they are stopped; ``init`` has a test of its own."""

COMMANDS: dict[str, tuple[str, ...]] = {
    "alerts": ("alerts",),
    "check": ("check",),
    "completion": ("completion", "bash"),
    "config show": ("config", "show"),
    "doctor": ("doctor", "--probe"),
    "export": ("export", "out"),
    "lake optimize": ("lake", "optimize", "--lake", "lake"),
    "lake push": ("lake", "push", "--lake", "lake"),
    "lake status": ("lake", "status", "--lake", "lake"),
    "migrate": ("migrate",),
    "plan": ("plan",),
    "publish": ("publish", "copy.duckdb"),
    "query": ("query", "select * from spending_hourly"),
    "query --list": ("query", "--list"),
    "replay": ("replay",),
    "report": ("report", "-o", "report.html"),
    "status": ("status",),
    "sync": ("sync",),
    "transfer": ("transfer", "warehouse.duckdb", "other.duckdb"),
}


def validate(name: str, text: str) -> Any:
    value = json.loads(text)
    Draft202012Validator(SCHEMAS[name], format_checker=FormatChecker()).validate(value)
    return value


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with world_today(tmp_path_factory.mktemp("json"), days=3) as world:
        assert world.run("sync") == 0
        assert world.run("lake", "push", "--lake", "lake") == 0
        (world.folder / "anticaptcha-etl.toml").write_text('[[alerts]]\nkind = "budget"\nusd = 1\nat = [1]\n')
        yield world


def test_schemas_are_current() -> None:
    assert json_schemas.FILE.read_text("utf-8") == json_schemas.text(), "run `make reference`"
    for schema in SCHEMAS.values():
        Draft202012Validator.check_schema(schema)


def test_every_command_has_a_schema_and_an_example() -> None:
    names = {name.removeprefix("anticaptcha-etl ") for name, _ in commands()} - WITHOUT_RESULT
    assert names <= {*COMMANDS} <= {*SCHEMAS}
    for name, command in commands():
        assert any(option.name == "as_json" for option in command.params), name


@pytest.mark.parametrize("name", COMMANDS)
def test_a_result_is_as_its_schema_says(name: str, world: World, capsys: pytest.CaptureFixture[str]) -> None:
    if name == "transfer":
        (world.folder / "other.duckdb").unlink(missing_ok=True)
    assert world.run(*COMMANDS[name], "--json") == (5 if name == "alerts" else 0)
    validate(name, capsys.readouterr().out)


def test_results_of_all_accounts_are_as_their_schemas_say(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path, days=2) as world:
        (tmp_path / "key").write_text("a-key-of-an-account-0123456789")
        (tmp_path / "anticaptcha-etl.toml").write_text(
            "[accounts.shop]\nclient_key_file = 'key'\n[accounts.other]\nclient_key_file = 'missing'\n"
        )
        assert world.run("sync", "--all", "--json") == 2
        found = validate("sync --all", capsys.readouterr().out)
        assert {one["account"]: one["exit_code"] for one in found["accounts"]} == {"shop": 0, "other": 2}
        assert "cannot be read" in found["accounts"][1]["error"]
        assert world.run("plan", "--all", "--json") == 0
        validate("plan --all", capsys.readouterr().out)
        with (tmp_path / "anticaptcha-etl.toml").open("a") as file:
            file.write("lookback = 'many'\n[[alerts]]\nkind = 'budget'\nusd = 1\n")
        assert world.run("alerts", "--all", "--json") == 2
        found = validate("alerts --all", capsys.readouterr().out)
        assert [len(found["accounts"]), len(found["failed"])] == [1, 1]


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("query", "select 1", "--json", "--colour"), 2),
        (("--json", "nothing"), 2),
        (("sync", "--json", "--lookback", "many"), 2),
        (("status", "--json", "--max-age", "0"), 5),
        (("query", "--json", "--warehouse", "missing.duckdb", "select 1"), 4),
    ],
)
def test_errors_are_objects_on_standard_error(
    arguments: tuple[str, ...], code: int, world: World, capsys: pytest.CaptureFixture[str]
) -> None:
    assert world.run(*arguments) == code
    found = validate("error", capsys.readouterr().err)
    assert found["exit_code"] == code
    assert found["hint"]


def test_a_defect_is_an_object_after_its_traceback(
    world: World, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise ZeroDivisionError("division by zero")

    monkeypatch.setattr("etl.outputs.status.load_status", fail)
    assert world.run("status", "--json") == 1
    *trace, last = capsys.readouterr().err.splitlines()
    assert any("ZeroDivisionError" in line for line in trace)
    assert validate("error", last)["exit_code"] == 1


def test_decimals_are_strings_with_all_digits(world: World, capsys: pytest.CaptureFixture[str]) -> None:
    assert world.run("query", "--json", "select cast(123456789.000000001 as decimal(18, 9)) as money, 1.0 as one") == 0
    assert json.loads(capsys.readouterr().out) == [{"money": "123456789.000000001", "one": "1.0"}]


def test_progress_is_lines_of_json_or_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    read: Callable[[], str] = lambda: capsys.readouterr().err  # noqa: E731
    with world_today(tmp_path, days=3) as world:
        assert world.run("sync", "--progress", "json", "-q") == 0
        lines = [json.loads(line) for line in read().splitlines() if line.startswith("{")]
        assert lines
        assert {"days_done", "requests", "money"} <= {*lines[0]["progress"]}
        assert isinstance(lines[0]["progress"]["money"], str)
        assert world.run("sync", "--progress", "off", "-q") == 0
        assert read() == ""


def test_the_demo_prints_three_results(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with world_today(tmp_path, days=1) as world:
        assert world.run("demo", "--json") == 0
    text, decoder, results = capsys.readouterr().out.strip(), json.JSONDecoder(), []
    while text:
        value, end = decoder.raw_decode(text)
        results.append(json.dumps(value))
        text = text[end:].strip()
    for name, result in zip(("sync", "status", "query"), results, strict=True):
        validate(name, result)
