"""The benchmarks in their short form: what noise cannot cross must hold, on any machine and however busy it is."""

import sys
import tempfile
from pathlib import Path

import pytest

from benchmarks import backfill, nights
from benchmarks.cost import cost, python
from benchmarks.figure import Figure, table
from benchmarks.service import Account, serving

BARE = ("-c", "import click")
HELP = ("-m", "etl", "--help")

pytestmark = pytest.mark.slow


def test_a_figure_tells_by_which_power_its_cost_grows() -> None:
    square = Figure("square", cost=9, target=9, sizes={10: 1, 100: 100, 1000: 10_000})
    assert square.exponent == pytest.approx(2)
    assert square.holds
    assert not square._replace(cost=9.1).holds
    assert "2.00" in table([square])


def test_nights_with_nothing_new_rewrite_no_fact_and_hardly_grow_the_file() -> None:
    rewritten, growth = nights.quiet(short=True)
    assert rewritten.cost == 0
    assert growth.cost < 2 * (growth.target or 0)


def test_a_sparse_account_is_asked_for_little_more_than_it_spent() -> None:
    # Its memory is not held here: the kernel counts what a process was before it was started, which is pytest.
    requests, _, _ = backfill.measure(short=True)
    assert requests.cost < 2  # of two years it is 1.6; of three months the first hunts weigh more


def test_help_costs_little_more_than_click_itself() -> None:
    bare, ours = (min(cost(sys.executable, *words).cpu for _ in range(3)) for words in (BARE, HELP))
    assert ours < 4 * bare


def test_a_windows_cost_does_not_grow_with_their_number() -> None:
    seconds = {}
    for days in (5, 20):
        account = Account(days, queues=5, at_once=5)
        with tempfile.TemporaryDirectory() as folder, serving(account) as url:
            told = python("sync_once", folder, url, 8, *account).said
            assert (Path(folder) / "warehouse.duckdb").exists()
        assert told["requests"] == days * 6 + 1
        seconds[days] = told["seconds"]
    assert seconds[20] < 3 * 4 * seconds[5]
