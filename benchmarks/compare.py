"""The same windows loaded by this program and by other tools: what it costs, and what each lost, doubled or changed.

Each tool runs as whole processes in an environment of its own. Every row it stored is compared with what the
service knows. ``checks_body``: the tool looks for errors in responses of status 200, and repeats those requests.
"""

import json
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from statistics import median
from typing import NamedTuple

import duckdb

from benchmarks import peers
from benchmarks.cost import Cost, cost, etl, write_settings
from benchmarks.figure import Figure, markdown
from benchmarks.service import Account, serving

CONCURRENCY = 16
LATENCIES = (0.05, 0)
ROWS = "rows wrong"
QUEUES = 20
DAYS, SHORT = 91, 10
FAULTS = {
    "errors with status 200": ("no_slot=0.02", "unknown_code=0.02"),
    "faults of HTTP": ("html_502=0.02", "retry_after=0.02", "reset=0.02"),
    "bodies that are no answer": ("html=0.01", "cut=0.01", "empty=0.01"),
}
"""The fault runs request a few days only: a tool that waits before it repeats a request would take very long."""

Row = tuple[str, int]
Rows = dict[Row, tuple[int, Decimal]]


class Tool(NamedTuple):
    """``run`` loads a job into its folder. ``rows``: its rows as queue (empty: total), Unix second, volume, money."""

    name: str
    run: Callable[[Path], Cost]
    rows: str


class Difference(NamedTuple):
    """What a tool stored, compared with what the service knows. ``stopped``: it ended with an error."""

    missing: int
    doubled: int
    changed: int
    stopped: bool

    def __str__(self) -> str:
        counts = {name: count for name, count in self._asdict().items() if name != "stopped" and count}
        return ", ".join([f"{count:,} {name}" for name, count in counts.items()] or ["exact"])


def ours(job: Path) -> Cost:
    wanted = json.loads(job.read_text())
    write_settings(job.parent, queues=wanted["queues"][1:])
    first, last = (str(datetime.fromtimestamp(day, UTC).date()) for day in (wanted["days"][-1], wanted["days"][0]))
    period = ("--since", first, "--until", last)
    limits = ("--rate", 0, "--concurrency", wanted["concurrency"])
    return etl(job.parent, "sync", *period, *limits, ANTICAPTCHA_API_URL=wanted["url"])


def _dlt(job: Path, *options: str) -> Cost:
    python = peers.environment("dlt") / "python"
    return cost(str(python), peers.program("dlt_pipeline"), str(job), *options, RUNTIME__DLTHUB_TELEMETRY="false")


def _dlt_client(job: Path) -> Cost:
    return _dlt(job, "--rest-client")


def dlt_seconds(url: str, account: Account) -> float:
    """Return the seconds dlt needs for all windows of an account, of the current day too."""
    with tempfile.TemporaryDirectory() as folder:
        return _dlt(job_in(Path(folder), url, account._replace(days=account.days + 1, night=1))).seconds


def _singer(job: Path) -> Cost:
    target = job.with_name("target.json")
    target.write_text(json.dumps({"path": str(job.with_name("warehouse.duckdb")), "default_target_schema": "peer"}))
    tap = f"{peers.environment('singer-tap') / 'python'} {peers.program('singer_tap')} --config {job}"
    load = f"{peers.environment('singer-target') / 'target-duckdb'} --config {target}"
    return cost("bash", "-o", "pipefail", "-c", f"{tap} | {load}", SINGER_SDK_LOG_LEVEL="WARNING")


def _airbyte(job: Path) -> Cost:
    python = peers.environment("airbyte") / "python"
    quiet = {"DO_NOT_TRACK": "1", "AIRBYTE_OFFLINE_MODE": "1"}
    return cost(str(python), peers.program("airbyte_source"), str(job), **quiet)


TOOLS = (
    Tool(
        "anticaptcha-etl", ours,
        "select queue, epoch(hour_start), volume, money from spending_hourly where queue <> '(unattributed)' "
        "union all select '', epoch(hour_start), volume, money from spending_total_hourly",
    ),
    Tool("dlt", _dlt, "select queue, date_from, volume, money from peer.facts"),
    Tool("dlt, REST client", _dlt_client, "select queue, date_from, volume, money from peer.facts"),
    Tool("Singer", _singer, "select nullif(queue, '(total)'), date_from, volume, money from peer.facts"),
    Tool("PyAirbyte", _airbyte, 'select queue, "datefrom", volume, money from main.facts'),
)  # fmt: skip


def measure(*, short: bool) -> Iterator[Figure]:
    account = Account.today(1 + (SHORT if short else DAYS), QUEUES)
    rounds = 1 if short else 3
    windows = f"{(account.days - 1) * (1 + QUEUES):,} windows"
    for latency in LATENCIES:
        with serving(account, latency) as url:
            of_tools = _in_turn(url, account, rounds)
        at = f"{windows}, {1000 * latency:g} ms"
        for tool, runs in of_tools.items():
            worst = max((found for _, found in runs), key=lambda one: sum(one[:3]))
            yield Figure(f"{tool}: {at}", median(one.seconds for one, _ in runs), None, "s", remark=str(worst))
            yield Figure(f"{tool}: {at}, processor", median(one.cpu for one, _ in runs), None, "s")
            yield Figure(f"{tool}: {at}, memory", median(one.peak for one, _ in runs), None, "MB")
    yield from _faults(Account.today(1 + SHORT, QUEUES))


def _in_turn(url: str, account: Account, rounds: int) -> dict[str, list[tuple[Cost, Difference]]]:
    expected = expected_rows(account)
    found: dict[str, list[tuple[Cost, Difference]]] = {tool.name: [] for tool in TOOLS}
    for _ in range(rounds):
        for tool in TOOLS:
            with tempfile.TemporaryDirectory() as folder:
                job = job_in(Path(folder), url, account)
                spent = tool.run(job)
                found[tool.name].append((spent, difference(tool, Path(folder), expected, stopped=False)))
    return found


def _faults(account: Account) -> Iterator[Figure]:
    expected = expected_rows(account)
    for name, faults in FAULTS.items():
        for tool in TOOLS:
            for checks_body in (False, True) if tool.run is not ours else (True,):
                # a server for each: whether a request gets a fault depends on how often it was made
                with serving(account, faults=faults) as url, tempfile.TemporaryDirectory() as folder:
                    stopped = True
                    with suppress(RuntimeError):
                        tool.run(job_in(Path(folder), url, account, checks_body=checks_body))
                        stopped = False
                    found = difference(tool, Path(folder), expected, stopped=stopped)
                checked = ", checks bodies" if checks_body else ""
                remark = f"{found}{', stopped with an error' if stopped else ''}"
                yield Figure(f"{tool.name}: {name}{checked}", sum(found[:3]), None, ROWS, remark=remark)


def job_in(folder: Path, url: str, account: Account, *, checks_body: bool = False) -> Path:
    path = folder / "job.json"
    job = {
        "url": url,
        "concurrency": CONCURRENCY,
        "checks_body": checks_body,
        "days": _days(account),
        "queues": ["", *account.dataset.names],
    }
    path.write_text(json.dumps(job))
    return path


def _days(account: Account) -> list[int]:
    """Return the complete days, newest first, as Unix seconds: the current day may change between the tools' turns."""
    midnight = account.now.replace(hour=0, minute=0, second=0, microsecond=0)
    return [int((midnight - timedelta(days=age)).timestamp()) for age in range(1, account.days)]


def expected_rows(account: Account) -> Rows:
    """Return what the service says of every hour, without passing through HTTP or any parser."""
    now = int(account.now.timestamp())
    return {
        (queue, second + 3600 * hour): values
        for second in _days(account)
        for queue in ("", *account.dataset.names)
        for hour, values in enumerate(account.dataset.day(second // 86_400, now, queue or None))
    }


def difference(tool: Tool, folder: Path, expected: Rows, *, stopped: bool) -> Difference:
    rows: list[tuple[str, int, int, Decimal]] = []
    with suppress(duckdb.Error), duckdb.connect(str(folder / "warehouse.duckdb")) as connection:
        columns = "coalesce(queue, ''), cast(second as bigint), cast(volume as bigint), cast(money as decimal(18, 9))"
        rows = connection.execute(f"select {columns} from ({tool.rows}) t(queue, second, volume, money)").fetchall()
    counts = Counter((queue, second) for queue, second, _, _ in rows)
    missing = sum(row not in counts for row in expected)
    changed = {(queue, second) for queue, second, *values in rows if expected.get((queue, second)) != (*values,)}
    return Difference(missing, sum(counts.values()) - len(counts), len(changed), stopped)


def table(figures: list[Figure]) -> str:
    """Format as Markdown: a row for each scenario, a column for each tool."""
    cells: dict[str, dict[str, str]] = {}
    for figure in figures:
        tool, _, scenario = figure.name.partition(": ")
        measured = figure.remark if figure.unit == ROWS else f"{figure.cost:.3g} {figure.unit}"
        detail = f" ({figure.remark})" if figure.remark and figure.unit != ROWS else ""
        cells.setdefault(scenario, {})[tool] = measured + detail
    names = [tool.name for tool in TOOLS]
    return markdown([("", *names), *((name, *(row.get(tool, "") for tool in names)) for name, row in cells.items())])
