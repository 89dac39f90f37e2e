"""A read-only server for assistants: the Model Context Protocol over standard input and output.

Its tools see what ``query`` sees: the views, without files, the network or writing, and with limits on rows and time.
"""

from itertools import islice
from typing import Any

from etl import __version__
from etl.clock import Clock
from etl.errors import AppError, UsageError
from etl.outputs import cookbook
from etl.outputs.query import run
from etl.outputs.serialize import plain
from etl.warehouse.views import public_views

MAX_ROWS = 1_000
MAX_SECONDS = 30.0

INSTRUCTIONS = """Spending of Anti-Captcha accounts, exact to the last digit. First call list_views. money is US dollars
as a decimal string; volume is tasks; days and hours are UTC. Rows with queue (unattributed) are the part of the total
that no queue explains: include them in sums. price_per_1000 cannot be summed. coverage_daily says which days are
complete."""


def serve(url: str, *, wait: float, clock: Clock) -> None:
    """Answer on standard output until standard input ends. Raises UsageError if the package mcp is missing."""
    server(url, wait=wait, clock=clock).run("stdio")


def server(url: str, *, wait: float, clock: Clock) -> Any:
    try:
        from mcp.server.mcpserver import MCPServer  # noqa: PLC0415 - an extra
        from mcp.server.mcpserver.exceptions import ToolError  # noqa: PLC0415
        from mcp.types import ToolAnnotations  # noqa: PLC0415
    except ImportError as error:
        hint = "pip install '.[mcp]' in the folder of the repository"
        raise UsageError("the server for assistants needs the package mcp, which is not installed", hint) from error
    found = MCPServer("anticaptcha-etl", version=__version__, instructions=INSTRUCTIONS, log_level="ERROR")
    read_only = found.tool(annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False))

    def rows(sql: str, max_rows: int) -> dict[str, Any]:
        limit = max(1, min(max_rows, MAX_ROWS))
        try:
            with run(url, sql, wait=wait, clock=clock, max_seconds=MAX_SECONDS) as result:
                shown = [plain(row) for row in islice(result.rows, limit)]
                return {
                    "columns": list(result.columns),
                    "rows": shown,
                    "has_more": next(result.rows, None) is not None,
                }
        except AppError as error:
            raise ToolError(f"{error.message}\nhint: {error.hint}") from error

    @read_only
    def list_views() -> list[dict[str, Any]]:
        """List the views with the meaning of every column."""
        return [{"view": one.name, "rows": one.comment, "columns": one.columns} for one in public_views()]

    @read_only
    def query(sql: str, max_rows: int = 200) -> dict[str, Any]:
        """Run one SQL statement that reads the views; at most 1,000 rows and 30 seconds."""
        return rows(sql, max_rows)

    @read_only
    def list_recipes() -> list[dict[str, str]]:
        """List saved queries for common questions, each with what one row of its result is."""
        return [{"name": one.name, "rows": one.grain} for one in cookbook.load()]

    @read_only
    def run_recipe(name: str, max_rows: int = 200) -> dict[str, Any]:
        """Run a saved query."""
        try:
            sql = cookbook.find(name).sql
        except AppError as error:
            raise ToolError(f"{error.message}\nhint: {error.hint}") from error
        return rows(sql, max_rows)

    return found
