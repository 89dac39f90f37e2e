"""The short benchmarks. Only bounds that hold on any machine, however busy, are asserted."""

import sys
import tempfile
from decimal import Decimal
from pathlib import Path
from threading import Event

import duckdb
import pytest

from benchmarks import backfill, compare, nights, opens
from benchmarks.cost import cost, python
from benchmarks.figure import Figure, table
from benchmarks.service import Account, serving

BARE_CLICK = ("-c", "import click")
HELP = ("-m", "etl", "--help")

pytestmark = pytest.mark.slow


def test_figure_computes_its_growth_exponent() -> None:
    square = Figure("square", cost=9, target=9, sizes={10: 1, 100: 100, 1000: 10_000})
    assert square.exponent == pytest.approx(2)
    assert square.holds
    assert not square._replace(cost=9.1).holds
    assert "2.00" in table([square])
    assert Figure.from_json(square.as_json()) == square


def test_figure_of_which_more_is_better_misses_its_target_from_below() -> None:
    share = Figure("share", cost=95, target=95, unit="%", more_is_better=True)
    assert share.holds
    assert not share._replace(cost=94.9).holds


def test_nightly_syncs_with_nothing_new_rewrite_no_fact_and_barely_grow_the_file() -> None:
    rewritten, growth = nights.quiet(short=True)
    assert rewritten.cost == 0
    assert growth.cost < 2 * (growth.target or 0)


def test_sparse_account_needs_few_requests_besides_its_active_days() -> None:
    # Memory is not asserted: the kernel counts the memory of pytest, which starts the process.
    requests, _, _ = backfill.measure(short=True)
    assert requests.cost < 2  # 1.6 for two years; in three months the first discovery counts more


def test_help_costs_little_more_than_click_itself() -> None:
    bare, ours = (min(cost(sys.executable, *words).cpu for _ in range(3)) for words in (BARE_CLICK, HELP))
    assert ours < 4 * bare


def test_cost_per_window_does_not_grow_with_the_number_of_windows() -> None:
    seconds = {}
    for days in (5, 20):
        account = Account(days, queues=5, at_once=5)
        with tempfile.TemporaryDirectory() as folder, serving(account) as url:
            result = python("sync_once", folder, url, 8, *account).result
            assert (Path(folder) / "warehouse.duckdb").exists()
        assert result["requests"] == days * 6 + 2, "a total and five queues a day, an unknown name, the balance"
        seconds[days] = result["seconds"]
    assert seconds[20] < 3 * 4 * seconds[5]


def test_comparison_counts_rows_that_are_missing_doubled_and_changed(tmp_path: Path) -> None:
    expected = {("", hour): (hour, Decimal("0.000001") * hour) for hour in range(5)}
    rows = [(hour, money) for (_, hour), (_, money) in expected.items()]
    del rows[4]
    rows += [rows[3]]
    rows[0] = (0, Decimal("0.000001"))
    with duckdb.connect(str(tmp_path / "warehouse.duckdb")) as connection:
        connection.execute("create table t (hour bigint, money decimal(18, 9))")
        connection.executemany("insert into t values (?, ?)", rows)
    tool = compare.Tool("any", compare.ours, "select '', hour, hour, money from t")
    found = compare.difference(tool, tmp_path, expected, stopped=False)
    assert found == (1, 1, 1, False)
    assert str(found) == "1 missing, 1 doubled, 1 changed"


def test_every_row_is_loaded_despite_errors_with_status_200(tmp_path: Path) -> None:
    account = Account(days=4, queues=3, at_once=3)  # of a fixed day, so the same requests get a fault in every run
    expected = compare.expected_rows(account)
    with serving(account, faults=("no_slot=0.2",)) as url:
        compare.ours(compare.job_in(tmp_path, url, account))
    assert str(compare.difference(compare.TOOLS[0], tmp_path, expected, stopped=False)) == "exact"
    assert len(expected) == 3 * 4 * 24


@pytest.mark.parametrize("is_locked", [False, True])
def test_an_open_succeeds_unless_another_process_has_the_file(tmp_path: Path, *, is_locked: bool) -> None:
    file = tmp_path / "warehouse.duckdb"
    writer = duckdb.connect(str(file))
    if not is_locked:
        writer.close()
    with opens.attempts_on(file) as found:
        Event().wait(0.5)
    writer.close()
    assert found["attempts"] > 0
    assert found["opened"] == (0 if is_locked else found["attempts"])
