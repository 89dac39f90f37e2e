"""Spend by app and by IP address: each dimension adds up to the total, and a failing member affects no other."""

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


def stored(world: World, dimension: str) -> Spent:
    """Return the rows of the view: (soft_id or ip, day) → (volume, money)."""
    member = "soft_id" if dimension == "app" else "ip"
    return {(name, day): (volume, money) for name, day, volume, money in world.rows(
        f"select {member}, day, volume, money from spending_by_{dimension}_daily")}  # fmt: skip


def expected_rows(world: World, dimension: str, members: Iterable[str]) -> Spent:
    """Return the API's own data for these members, with what remains of the total under None."""
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
    values = list(hours)
    return sum(volume for volume, _ in values), sum((money for _, money in values), Decimal(0))


def members_requested(requests: Iterable[Request]) -> list[tuple[int | None, str | None]]:
    return [(request.soft_id, request.ip) for request in requests if request.soft_id or request.ip]


def warnings(summary: SyncResult) -> list[str]:
    return [finding.message for finding in summary.findings if finding.severity != "note"]


@pytest.mark.parametrize(("dimension", "options"), [("app", {"soft_ids": APPS}), ("ip", {"ips": IPS})])
def test_each_dimension_is_exact_and_adds_up_to_the_total(
    dimension: str, options: dict[str, Any], tmp_path: Path
) -> None:
    with world(tmp_path) as account:
        assert account.sync(**options).exit_code == 0
        assert stored(account, dimension) == expected_rows(account, dimension, next(iter(options.values())))
        sums = f"select day, cast(sum(money) as decimal(18, 9)) from spending_by_{dimension}_daily group by day order by day"
        assert account.rows(sums) == account.rows(sums.replace(f"spending_by_{dimension}_daily", "spending_daily"))


def test_a_second_sync_requests_no_app_again_and_one_without_apps_keeps_them_exact(tmp_path: Path) -> None:
    with world(tmp_path) as account:
        account.sync(soft_ids=APPS)
        before = len(account.requests)
        account.sync(soft_ids=APPS)
        assert members_requested(account.requests[before:]) == []
        account.now += timedelta(hours=2)  # today has grown, and the day that became final is read once more
        account.sync()
        assert stored(account, "app") == expected_rows(account, "app", APPS)


def test_an_app_added_later_is_requested_once_for_each_day_with_spend_and_nothing_else(tmp_path: Path) -> None:
    with world(tmp_path) as account:
        account.sync()
        before = len(account.requests)
        account.sync(soft_ids=("1011",))
        requested = [request for request in account.requests[before:] if request.soft_id == 1011]
        assert len(requested) == len({request.date for request in requested}) == DAYS + 1
        assert not [request for request in account.requests[before:] if request.queue]
        assert stored(account, "app") == expected_rows(account, "app", ["1011"])


def test_an_app_of_another_account_is_reported_and_affects_nothing_else(tmp_path: Path) -> None:
    tmp_path.joinpath("anticaptcha-etl.toml").write_text("soft_ids = [1011, 77]\n")
    with world(tmp_path) as account:
        summary = account.sync()
        assert summary.exit_code == 0
        assert [message for message in warnings(summary) if "'77'" in message and "refuses" in message]
        assert sum(request.soft_id == 77 for request in account.requests) == 1
        assert stored(account, "app") == expected_rows(account, "app", ["1011"])
        before = len(account.requests)
        account.sync()
        assert members_requested(account.requests[before:]) == []


def test_an_app_that_the_api_starts_to_refuse_keeps_its_history_and_fails_no_day(tmp_path: Path) -> None:
    with world(tmp_path) as account:
        account.sync(soft_ids=APPS)
        before_refusal = {key: value for key, value in stored(account, "app").items() if key[1] < ago(5)}
        account.sandbox.faults = (Fault(FaultKind.ACCESS_DENIED, soft_ids=(1011,)),)
        account.now += timedelta(days=1)
        summary = account.sync(soft_ids=APPS)
        assert summary.exit_code == 0
        assert [message for message in warnings(summary) if "'1011'" in message]
        assert {key: value for key, value in stored(account, "app").items() if key[1] < ago(5)} == before_refusal
        assert account.statuses()["failed"] == 0


def test_a_retired_app_that_the_user_requests_again_keeps_its_history(tmp_path: Path) -> None:
    refused = Fault(FaultKind.ACCESS_DENIED, soft_ids=(1011,))
    with world(tmp_path, behaviour=Behaviour(foreign_app="totals")) as account:
        account.sync(soft_ids=APPS)
        account.sandbox.faults = (refused,)
        account.now += timedelta(days=1)
        account.sync(soft_ids=APPS)
        assert (
            account.one(
                "select status from internal.member_statuses where member = '1011' order by valid_from desc limit 1"
            )
            == "retired"
        )
        account.sandbox.faults = ()
        for apps in (APPS, (), ()):
            account.now += timedelta(days=1)
            assert account.sync(soft_ids=apps).exit_code == 0
            assert sum(soft_id == 1011 for soft_id, _ in stored(account, "app")) >= DAYS
        assert (
            account.one(
                "select status from internal.member_statuses where member = '1011' order by valid_from desc limit 1"
            )
            == "verified"
        )


@pytest.mark.parametrize("foreign", ["zeros", "totals", "error"])
def test_a_mistyped_address_has_no_spend_whatever_the_api_returns(foreign: Any, tmp_path: Path) -> None:
    with world(tmp_path, behaviour=Behaviour(foreign_ip=foreign)) as account:
        summary = account.sync(ips=("192.0.2.10", "203.0.113.99"))
        assert summary.exit_code == 0
        assert stored(account, "ip") == expected_rows(account, "ip", ["192.0.2.10"])
        assert bool(warnings(summary)) is (foreign != "zeros")


def test_over_allocation_by_a_trusted_queue_is_a_blocking_finding_until_trust_is_withdrawn(
    tmp_path: Path,
) -> None:
    with world(tmp_path, behaviour=Behaviour(unknown_queue="totals")) as account:
        account.sync(queues=("Misspelt",))
        correct = account.hourly()
        summary = account.sync(queues=("Misspelt",), trusted_queues=("Misspelt",))
        assert summary.exit_code == 5
        assert account.one("select count(*) from reconciliation_hourly where state = 'contradicted'") > 0
        assert (
            account.one("select count(*) from coverage_daily where contradicted_hours > 0 and day < date '2026-11-22'")
            > 0
        )
        assert account.rows("select sum(money) from spending_hourly") == [
            (sum(money for _, money in correct.values()),)
        ]
        summary = account.sync()
        assert summary.exit_code == 0
        assert account.hourly() == correct
        assert account.one("select count(*) from reconciliation_hourly where state = 'contradicted'") == 0


def test_reconciliation_shows_the_queues_and_the_unattributed_amount_of_every_hour(tmp_path: Path) -> None:
    with World(tmp_path, small(3, queues=("Recaptcha Proxyless", "Unlisted"))) as account:
        account.sync()
        rows = account.rows(
            "select hour_start, total_volume, total_money, queues_volume, queues_money, rest_volume, rest_money, state"
            "  from reconciliation_hourly"
        )
        assert len(rows) == account.one("select count(*) from spending_total_hourly")
        expected = account.expected_rows()
        for (
            hour,
            total_volume,
            total_money,
            queues_volume,
            queues_money,
            unattributed_volume,
            unattributed_money,
            state,
        ) in rows:
            listed, unlisted = (
                expected.get(("Recaptcha Proxyless", hour)),
                expected.get(("Unlisted", hour), (0, Decimal(0))),
            )
            assert (queues_volume, queues_money) == (listed or (0, Decimal(0)))
            assert (unattributed_volume, unattributed_money) == unlisted
            assert (total_volume, total_money) == (
                queues_volume + unattributed_volume,
                queues_money + unattributed_money,
            )
            assert state == ("rest" if any(unlisted) else "explained") or hour >= datetime(2026, 11, 22)
