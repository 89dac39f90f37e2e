"""The short benchmarks. Only bounds that hold on any machine, however busy, are asserted."""

import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks import backfill, nights
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
        assert result["requests"] == days * 6 + 1
        seconds[days] = result["seconds"]
    assert seconds[20] < 3 * 4 * seconds[5]
