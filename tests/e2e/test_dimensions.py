"""The same money by app and by address: each cut sums to the total, and no trouble of one touches another."""

from collections.abc import Iterable
from datetime import date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from etl.sandbox.behaviour import Behaviour, Fault, FaultKind, Request
from etl.sync.results import SyncResult
from tests.e2e.world import World, ago, small

pytestmark = pytest.mark.contract

DAYS = 12
APPS = ("1011", "1022", "1033")
IPS = ("192.0.2.10", "192.0.2.20", "198.51.100.7")

Spent = dict[tuple[object, date], tuple[int, Decimal]]


def world(folder: Path, **more: Any) -> World:
    return World(folder, small(DAYS, queues=2), **more)


def held(world: World, dimension: str) -> Spent:
    """What analysts read: (soft_id or ip, day) → (volume, money)."""
    member = "soft_id" if dimension == "app" else "ip"
    return {(one, day): (volume, money) for one, day, volume, money in world.rows(
        f"select {member}, day, volume, money from spending_by_{dimension}_daily")}  # fmt: skip


def expected_rows(world: World, dimension: str, members: Iterable[str]) -> Spent:
    """What the stand-in has in its books, and what is left of the total."""
    spent: Spent = {}
    for n in range(DAYS + 1):
        number, as_of = (ago(n) - date(1970, 1, 1)).days, int(world.now.timestamp())
        unattributed = _sum(world.dataset.day(number, as_of))
        for member in members:
            of = {"soft_id": int(member)} if dimension == "app" else {"ip": member}
            value = _sum(world.dataset.day(number, as_of, **of))
            if any(value):
                spent[int(member) if dimension == "app" else member, ago(n)] = value
            unattributed = unattributed[0] - value[0], unattributed[1] - value[1]
        if any(unattributed):
            spent[None, ago(n)] = unattributed
    return spent


def _sum(hours: Iterable[tuple[int, Decimal]]) -> tuple[int, Decimal]:
    told = list(hours)
    return sum(volume for volume, _ in told), sum((money for _, money in told), Decimal(0))


def of_cuts(requests: Iterable[Request]) -> list[tuple[int | None, str | None]]:
    return [(request.soft_id, request.ip) for request in requests if request.soft_id or request.ip]


def warnings(summary: SyncResult) -> list[str]:
    return [finding.message for finding in summary.findings if finding.severity != "note"]


@pytest.mark.parametrize(("dimension", "given"), [("app", {"soft_ids": APPS}), ("ip", {"ips": IPS})])
def test_each_cut_is_in_the_warehouse_to_the_last_digit_and_sums_to_the_total(
    dimension: str, given: dict[str, Any], tmp_path: Path
) -> None:
    with world(tmp_path) as there:
        assert there.sync(**given).exit_code == 0
        assert held(there, dimension) == expected_rows(there, dimension, next(iter(given.values())))
        sums = f"select day, cast(sum(money) as decimal(18, 9)) from spending_by_{dimension}_daily group by day order by day"
        assert there.rows(sums) == there.rows(sums.replace(f"spending_by_{dimension}_daily", "spending_daily"))


def test_a_second_run_asks_no_app_again_and_a_run_that_lists_none_keeps_what_is_held_true(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.sync(soft_ids=APPS)
        before = len(there.requests)
        there.sync(soft_ids=APPS)
        assert of_cuts(there.requests[before:]) == []
        there.now += timedelta(hours=2)  # today has grown; the day that became final is read once more
        there.sync()
        assert held(there, "app") == expected_rows(there, "app", APPS)


def test_an_app_listed_later_is_asked_on_each_day_with_spend_once_and_nothing_else_is(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.sync()
        before = len(there.requests)
        there.sync(soft_ids=("1011",))
        asked = [request for request in there.requests[before:] if request.soft_id == 1011]
        assert len(asked) == len({request.date for request in asked}) == DAYS + 1
        assert not [request for request in there.requests[before:] if request.queue]
        assert held(there, "app") == expected_rows(there, "app", ["1011"])


def test_an_app_that_is_not_the_accounts_ends_alone_and_a_person_hears_of_it(tmp_path: Path) -> None:
    tmp_path.joinpath("anticaptcha-etl.toml").write_text("soft_ids = [1011, 77]\n")
    with world(tmp_path) as there:
        summary = there.sync()
        assert summary.exit_code == 0
        assert [message for message in warnings(summary) if "'77'" in message and "refuses" in message]
        assert sum(request.soft_id == 77 for request in there.requests) == 1
        assert held(there, "app") == expected_rows(there, "app", ["1011"])
        before = len(there.requests)
        there.sync()
        assert of_cuts(there.requests[before:]) == []


def test_an_app_refused_from_now_on_keeps_its_history_and_fails_no_day(tmp_path: Path) -> None:
    with world(tmp_path) as there:
        there.sync(soft_ids=APPS)
        kept = {key: value for key, value in held(there, "app").items() if key[1] < ago(5)}
        there.sandbox.faults = (Fault(FaultKind.ACCESS_DENIED, soft_ids=(1011,)),)
        there.now += timedelta(days=1)
        summary = there.sync(soft_ids=APPS)
        assert summary.exit_code == 0
        assert [message for message in warnings(summary) if "'1011'" in message]
        assert {key: value for key, value in held(there, "app").items() if key[1] < ago(5)} == kept
        assert there.statuses()["failed"] == 0


def test_an_app_that_ended_and_is_asked_again_by_hand_keeps_its_history(tmp_path: Path) -> None:
    refused = Fault(FaultKind.ACCESS_DENIED, soft_ids=(1011,))
    with world(tmp_path, behaviour=Behaviour(foreign_app="totals")) as there:
        there.sync(soft_ids=APPS)
        there.sandbox.faults = (refused,)
        there.now += timedelta(days=1)
        there.sync(soft_ids=APPS)
        assert (
            there.one(
                "select status from internal.member_statuses where member = '1011' order by valid_from desc limit 1"
            )
            == "retired"
        )
        there.sandbox.faults = ()
        for apps in (APPS, (), ()):
            there.now += timedelta(days=1)
            assert there.sync(soft_ids=apps).exit_code == 0
            assert sum(one == 1011 for one, _ in held(there, "app")) >= DAYS
        assert (
            there.one(
                "select status from internal.member_statuses where member = '1011' order by valid_from desc limit 1"
            )
            == "verified"
        )


@pytest.mark.parametrize("foreign", ["zeros", "totals", "error"])
def test_a_mistyped_address_holds_no_money_whatever_the_service_answers(foreign: Any, tmp_path: Path) -> None:
    with world(tmp_path, behaviour=Behaviour(foreign_ip=foreign)) as there:
        summary = there.sync(ips=("192.0.2.10", "203.0.113.99"))
        assert summary.exit_code == 0
        assert held(there, "ip") == expected_rows(there, "ip", ["192.0.2.10"])
        assert bool(warnings(summary)) is (foreign != "zeros")


def test_members_that_exceed_the_total_are_data_a_blocking_finding_and_gone_when_trust_is_withdrawn(
    tmp_path: Path,
) -> None:
    with world(tmp_path, behaviour=Behaviour(unknown_queue="totals")) as there:
        there.sync(queues=("Misspelt",))
        right = there.hourly()
        summary = there.sync(queues=("Misspelt",), trusted_queues=("Misspelt",))
        assert summary.exit_code == 5
        assert there.one("select count(*) from reconciliation_hourly where state = 'contradicted'") > 0
        assert (
            there.one("select count(*) from coverage_daily where contradicted_hours > 0 and day < date '2026-11-22'")
            > 0
        )
        assert there.rows("select sum(money) from spending_hourly") == [(sum(money for _, money in right.values()),)]
        summary = there.sync()
        assert summary.exit_code == 0
        assert there.hourly() == right
        assert there.one("select count(*) from reconciliation_hourly where state = 'contradicted'") == 0


def test_reconciliation_tells_of_every_hour_what_the_queues_explain_and_what_is_left(tmp_path: Path) -> None:
    with World(tmp_path, small(3, queues=("Recaptcha Proxyless", "Unlisted"))) as there:
        there.sync()
        rows = there.rows(
            "select hour_start, total_volume, total_money, queues_volume, queues_money, rest_volume, rest_money, state"
            "  from reconciliation_hourly"
        )
        assert len(rows) == there.one("select count(*) from spending_total_hourly")
        told = there.expected_rows()
        for hour, total_volume, total_money, queues_volume, queues_money, rest_volume, rest_money, state in rows:
            known, unknown = told.get(("Recaptcha Proxyless", hour)), told.get(("Unlisted", hour), (0, Decimal(0)))
            assert (queues_volume, queues_money) == (known or (0, Decimal(0)))
            assert (rest_volume, rest_money) == unknown
            assert (total_volume, total_money) == (queues_volume + rest_volume, queues_money + rest_money)
            assert state == ("rest" if any(unknown) else "explained") or hour >= datetime(2026, 11, 22)
