"""The server for assistants, driven by the client of the official SDK over standard input and output."""

import asyncio
import json
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
from mcp import Client, StdioServerParameters

from etl.clock import Clock
from etl.errors import UsageError
from etl.outputs import assistant
from etl.outputs.query import run
from etl.warehouse.engine import warehouse_url
from etl.warehouse.views import public_views
from tests.integration.sample_warehouse import FILLED, HOURS, SampleWarehouse
from tests.migrated_file import copy_migrated


@pytest.fixture
def sample(tmp_path: Path) -> SampleWarehouse:
    sample = SampleWarehouse(tmp_path)
    copy_migrated(sample.file)
    sample.write(FILLED)
    return sample


def ask(sample: SampleWarehouse, work: Callable[[Client], Coroutine[Any, Any, None]]) -> None:
    program = str(Path(sys.executable).with_name("anticaptcha-etl"))
    command = StdioServerParameters(command=program, args=["mcp", "--warehouse", str(sample.file)])

    async def main() -> None:
        async with Client(command, read_timeout_seconds=60) as client:
            await work(client)

    asyncio.run(main())


async def call(client: Client, tool: str, **arguments: object) -> Any:
    result = await client.call_tool(tool, arguments)
    assert not result.is_error, result.content
    found = result.structured_content
    assert found is not None
    return found.get("result", found)


async def refusal(client: Client, tool: str, **arguments: object) -> str:
    result = await client.call_tool(tool, arguments)
    assert result.is_error
    return json.dumps([one.model_dump(mode="json") for one in result.content])


def test_an_assistant_lists_views_runs_queries_and_saved_queries(sample: SampleWarehouse) -> None:
    async def work(client: Client) -> None:
        tools = (await client.list_tools()).tools
        assert {tool.name for tool in tools} == {"list_views", "query", "list_recipes", "run_recipe"}
        assert all(tool.annotations and tool.annotations.read_only_hint for tool in tools)
        found = await call(client, "list_views")
        assert {one["view"]: one["columns"] for one in found} == {one.name: one.columns for one in public_views()}
        rows = await call(client, "query", sql="select sum(volume) as n, sum(money) as usd from spending_hourly")
        assert rows == {"columns": ["n", "usd"], "rows": [[3 * HOURS, f"{HOURS}.{HOURS:09}"]], "has_more": False}
        rows = await call(client, "query", sql="select * from spending_hourly", max_rows=5)
        assert (len(rows["rows"]), rows["has_more"]) == (5, True)
        assert len((await call(client, "query", sql="from range(5000)", max_rows=5000))["rows"]) == assistant.MAX_ROWS
        names = {one["name"] for one in await call(client, "list_recipes")}
        for name in names:
            await call(client, "run_recipe", name=name)

    ask(sample, work)


def test_hostile_queries_are_refused_and_the_server_goes_on(sample: SampleWarehouse, tmp_path: Path) -> None:
    before = sample.file.read_bytes()

    async def work(client: Client) -> None:
        for sql in (
            "delete from internal.facts",
            "drop view spending_hourly",
            "copy (select 1) to '/tmp/x.csv'",
            f"select * from read_text('{tmp_path}/secret')",
            "select 1; delete from internal.facts",
            "attach 'other.duckdb'",
            "install httpfs",
            "set enable_external_access = true",
            "select getenv('HOME')",
            "",
            "selectt 1",
        ):
            text = await refusal(client, "query", sql=sql)
            assert "hint: " in text or "hint" in text, sql
        assert "did you mean" in await refusal(client, "run_recipe", name="month_to_date")
        assert (await call(client, "query", sql="select 1 as one"))["rows"] == [[1]]

    (tmp_path / "secret").write_text("secret")
    ask(sample, work)
    assert sample.file.read_bytes() == before


def test_a_query_that_takes_too_long_is_stopped(sample: SampleWarehouse) -> None:
    sql = "select count(*) from range(100000000) as a(x), range(100000) as b(y) where x % 7 = y % 5"
    with (
        pytest.raises(UsageError, match=r"took longer than 0.5 seconds"),
        run(warehouse_url(str(sample.file)), sql, clock=Clock(), max_seconds=0.5) as result,
    ):
        next(result.rows)


def test_without_the_extra_the_error_says_how_to_install_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    with pytest.raises(UsageError, match="needs the package mcp") as missing:
        assistant.serve("duckdb:///x", wait=0, clock=Clock())
    assert missing.value.hint.startswith("pip install '.[mcp]'")
