"""Estimate the requests of a sync, without making any. Needs no key and writes nothing."""

from contextlib import nullcontext

from etl.clock import Clock
from etl.config import Settings
from etl.extract import planner
from etl.load.stored import StoredStateReader
from etl.load.stored_account import find_account
from etl.sync import initial_state
from etl.sync.results import RequestPlan
from etl.warehouse import engine as warehouse
from etl.warehouse.migrate import require_readable
from etl.warehouse.reading import open_for_reading


def plan_account(settings: Settings, clock: Clock) -> RequestPlan:
    """Estimate what ``sync_account`` would request. Raises WarehouseError."""
    estimate = planner.estimate(_initial_state(settings, clock))

    def minutes(requests: int | None) -> float | None:
        return None if requests is None or not settings.rate else requests / settings.rate / 60

    unbounded = (
        f"the first day of history is not known yet; the search ends {settings.empty_days} days before the oldest "
        "spend, or at --since DATE"
    )
    return RequestPlan(
        account=settings.account,
        days=estimate.days,
        at_least=estimate.at_least,
        at_most=estimate.at_most,
        minutes_at_least=minutes(estimate.at_least),
        minutes_at_most=minutes(estimate.at_most),
        hints=(unbounded,) if estimate.at_most is None else (),
    )


def _initial_state(settings: Settings, clock: Clock) -> planner.PlannerState:
    url, wait = warehouse.warehouse_url(settings.warehouse), settings.lock_wait
    if not warehouse.exists(url, wait=wait, clock=clock):
        return _empty_state(settings, clock)
    with open_for_reading(url, wait=wait, clock=clock) as reader:
        require_readable(reader)
        account = find_account(reader, settings.account)
        if account is None:
            return _empty_state(settings, clock)
        since = None if settings.since_all else settings.since or account.since
        options = initial_state.sync_options(settings, clock.now(), since)
        store = StoredStateReader(account, lambda: nullcontext(reader))
        return planner.start(options, initial_state.load_stored_state(store, options).stored)


def _empty_state(settings: Settings, clock: Clock) -> planner.PlannerState:
    """Nothing is stored: there is no warehouse, or it does not have the account."""
    return planner.start(initial_state.sync_options(settings, clock.now(), settings.since), planner.StoredState())
