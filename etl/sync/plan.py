"""Estimate the requests of a sync, without making any. Needs no key and writes nothing."""

from etl.clock import Clock
from etl.config import Settings
from etl.extract import planner
from etl.load import accounts
from etl.load.state import SyncStateStore
from etl.sync import initial_state
from etl.sync.results import RequestPlan
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate


def plan_account(settings: Settings, clock: Clock) -> RequestPlan:
    """Estimate what ``sync_account`` would request. Raises WarehouseError."""
    estimate = planner.estimate(_initial_state(settings, clock))

    def minutes(requests: int | None) -> float | None:
        return None if requests is None or not settings.rate else requests / settings.rate / 60

    unbounded = "the first day of history is not known yet; --since DATE limits the plan"
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
    """The planner's first state; without a warehouse, or without the account in it, nothing is stored."""
    url, account = warehouse.warehouse_url(settings.warehouse), None
    if warehouse.exists(url, wait=settings.lock_wait, clock=clock):
        engine = warehouse.open_warehouse(url, read_only=True, wait=settings.lock_wait, clock=clock)
        migrate.require_readable(engine)
        account = accounts.find_account(engine, settings.account)
    if account is None:
        return planner.start(initial_state.sync_options(settings, clock.now(), settings.since), planner.StoredState())
    since = None if settings.since_all else settings.since or account.since
    options = initial_state.sync_options(settings, clock.now(), since)
    store = SyncStateStore(engine, account, clock.now)
    return planner.start(options, initial_state.load_stored_state(store, options).stored)
