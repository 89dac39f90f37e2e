"""The balance is read once with each sync; it explains top-ups and says how long the money lasts."""

import json
from dataclasses import replace
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from etl.sandbox.behaviour import BALANCE_METHOD, Behaviour, Fault, FaultKind
from etl.sandbox.dataset import Dataset
from tests.e2e.world import NOW, World, ago

pytestmark = pytest.mark.contract

DEPOSIT = Decimal(5000)
FIRST = NOW - timedelta(days=100)


def world_in(folder: Path, days: int = 6, **behaviour: object) -> World:
    dataset = Dataset.always_active(begins=ago(days), queues=("English ImageToText", "FunCaptcha"))
    found = Behaviour(unknown_queue="zeros", deposits=((FIRST, DEPOSIT),))
    return World(folder, dataset, replace(found, **behaviour))  # type: ignore[arg-type]


def left(world: World) -> Decimal:
    rows = world.sandbox.expected_rows(ago(6), world.now.date(), world.now)
    return DEPOSIT - sum((money for *_, money in rows), Decimal(0))


@pytest.mark.parametrize("kind", ["number", "string", "noise"])
def test_a_sync_stores_the_exact_balance_with_one_request(tmp_path: Path, kind: str) -> None:
    with world_in(tmp_path, balance_form=kind) as world:
        result = world.sync(balance=True)
        assert world.rows("select balance, captcha_credits from balance_history") == [(left(world), 0)]
        assert [one.path for one in world.requests].count(BALANCE_METHOD) == 1
        assert result.requests == len(world.requests)
        world.now += timedelta(seconds=29)
        world.sync(balance=True)
        assert world.one("select count(*) from balance_history") == 1, "at most one request in 30 s"
        world.now += timedelta(seconds=1)
        world.sync()
        assert world.one("select count(*) from balance_history") == 1
        world.sync(balance=True)
        assert world.one("select count(*) from balance_history") == 2


@pytest.mark.parametrize(
    "fault",
    [
        FaultKind.HTML,
        FaultKind.HTML_500,
        FaultKind.EMPTY,
        FaultKind.RESET,
        FaultKind.TRUNCATED,
        FaultKind.REFUSE_KEY,
        FaultKind.ENDLESS,
    ],
)
def test_a_balance_that_cannot_be_read_is_a_warning_and_everything_else_is_loaded(
    tmp_path: Path, fault: FaultKind
) -> None:
    with world_in(tmp_path) as world:
        world.sandbox.faults = (Fault(fault, of_balance=True),)
        result = world.sync(balance=True)
        assert result.exit_code == 0
        assert [one.check for one in result.findings] == ["the balance was read"]
        assert world.hourly() == world.expected_rows()
        assert world.one("select count(*) from balance_history") == 0


@pytest.mark.parametrize("kind", ["missing", "error"])
def test_a_response_without_a_balance_is_a_warning(tmp_path: Path, kind: str) -> None:
    with world_in(tmp_path, balance_form=kind) as world:
        [finding] = world.sync(balance=True).findings
        assert finding.check == "the balance was read"


def test_a_top_up_is_what_the_spend_between_two_readings_does_not_explain(tmp_path: Path) -> None:
    with world_in(tmp_path) as world:
        world.sync(balance=True)
        world.now += timedelta(days=1)
        world.sync(balance=True)
        world.sandbox.behaviour = replace(
            world.sandbox.behaviour, deposits=((FIRST, DEPOSIT), (world.now, Decimal(250)))
        )
        world.now += timedelta(days=1)
        world.sync(balance=True)
        world.now += timedelta(hours=1)
        world.sandbox.behaviour = replace(world.sandbox.behaviour, deposits=((FIRST, DEPOSIT + 150),))
        world.sync(balance=True)
        first, usual, topped_up, charged = world.rows(
            "select spent_at_least, spent_at_most, top_up, missing from balance_history order by read_at"
        )
        assert first == (None, None, None, None)
        assert usual[0] <= usual[1]
        assert usual[2:] == (0, 0)
        uncertain = topped_up[1] - topped_up[0]
        assert Decimal(250) - uncertain <= topped_up[2] <= 250
        assert topped_up[3] == 0
        assert charged[2] == 0
        assert Decimal(100) - 2 * uncertain <= charged[3] <= 100


def test_the_runway_counts_each_coming_hour_as_the_same_hour_of_the_last_week(tmp_path: Path) -> None:
    with world_in(tmp_path, days=60) as world:
        world.sync(balance=True)
        [(balance, by_7, by_28, low, high, empty_at)] = world.rows(
            "select balance, days_by_7_days, days_by_28_days, days_low, days_high, empty_at from runway"
        )
        hours = [
            money
            for (money,) in world.rows(
                "select money from spending_total_hourly where hour_start < %s order by hour_start desc limit 168",
                NOW.replace(minute=0, tzinfo=None),
            )
        ]
        left, ahead = balance, 0
        week = hours[::-1]
        while left > week[ahead % 168]:
            left -= week[ahead % 168]
            ahead += 1
        assert float(by_7) == pytest.approx((ahead + float(left / week[ahead % 168])) / 24, abs=0.051)
        assert low <= by_28 <= high
        assert low <= by_7 <= high
        assert empty_at.date() == (NOW + timedelta(days=float(by_7))).date()


def test_status_shows_the_newest_balance_and_how_long_it_lasts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with world_in(tmp_path) as world:
        world.sync(balance=True)
        world.now += timedelta(days=1)
        world.sync(balance=True)
        assert world.run("status", "--json") == 0
        [account] = json.loads(capsys.readouterr().out)["accounts"]
        [(days, low, high)] = world.rows("select days_by_7_days, days_low, days_high from runway")
        assert account["balance"] == {
            "read_at": "2026-11-23T09:30:00Z",
            "balance": f"{left(world):.9f}",
            **{name: None if value is None else str(value) for name, value in
               (("days", days), ("days_low", low), ("days_high", high))},
        }  # fmt: skip
        assert world.run("status") == 0
        text = " ".join(capsys.readouterr().out.split())
        assert f"balance {left(world):,.9f} USD, read 2026-11-23 09:30 UTC; lasts {days:,} days ({low:,} to " in text


def test_status_shows_a_balance_without_spend_and_none_that_was_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with World(tmp_path, Dataset(begins=ago(-1)), Behaviour(deposits=((FIRST, DEPOSIT),))) as world:
        world.sync()
        assert world.run("status") == 0
        assert "  balance" not in capsys.readouterr().out
        world.sync(balance=True)
        assert world.run("status") == 0
        text = capsys.readouterr().out
        [line] = [line for line in text.splitlines() if line.startswith("  balance")]
        assert line.split(maxsplit=1)[1] == "5,000.000000000 USD, read 2026-11-22 09:30 UTC"
