"""The two ways in: ``sync`` opens the doors for a run, ``plan`` only looks."""

import logging
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from etl import errors, logging_setup
from etl.clock import Clock
from etl.config import Settings
from etl.extract import planner
from etl.extract.client import Client
from etl.extract.rate_limit import AccountRateLimiter, RateLimiter
from etl.load import state as state_store
from etl.load.lock import account_lock
from etl.sync import load_state
from etl.sync.request_loop import Run
from etl.sync.results import Forecast, Progress, Summary
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

log = logging.getLogger(__name__)


_making = threading.Lock()
"""Of accounts side by side for whom there is no warehouse yet, or an older one, one makes it."""


def sync(
    settings: Settings,
    clock: Clock,
    watch: Callable[[Progress], None],
    pace: RateLimiter | AccountRateLimiter | None = None,
    while_running: Callable[[Run], AbstractContextManager[object]] = nullcontext,
) -> Summary:
    """Brings one account's warehouse up to date. What is held by others is waited for, at its start (before any request) and at
    each commit, ``settings.lock_wait`` seconds at most.

    An account beside others has a ``pace`` that it shares with them, in place of its own, and is ``while_running`` one that another
    thread can interrupt.

    Raises UsageError, AccountRefusedError, WarehouseError; KeyboardInterrupt becomes InterruptedRunError once what was taken
    in is committed.
    """
    logging_setup.about(account=settings.account)
    if settings.key is None:
        raise errors.UsageError("sync needs the client key", "export ANTICAPTCHA_CLIENT_KEY=...")
    url = warehouse.warehouse_url(settings.warehouse)
    with _making:
        is_new = not warehouse.exists(url, wait=settings.lock_wait, clock=clock)
        engine = warehouse.open_warehouse(url, wait=settings.lock_wait, clock=clock)
        if is_new:
            log.warning("there was no warehouse yet: created %s", warehouse.name_of(engine.url))
    with ExitStack() as stack:
        stack.enter_context(account_lock(url, settings.account, clock, wait=settings.lock_wait))
        if migrate.state(engine) != "current":
            with _making:
                migrate.upgrade(engine)
        jitter = random.Random().random  # noqa: S311  # spreads retries, guards nothing
        client = stack.enter_context(
            Client(
                settings.api_url,
                settings.key,
                pace or RateLimiter(settings.rate, clock),
                clock,
                jitter,
                settings.concurrency,
            )
        )
        with engine.connect() as connection:
            account = state_store.open_account(
                connection, settings.account, settings.key, clock.now(), settings.key_changed
            )
            if settings.since or settings.since_all:
                account = state_store.save_since(connection, account, settings.since)
            _check_span(settings, account)
            stored = state_store.SyncStateStore(engine, account, clock.now)
            with stored.through(connection):
                run = Run(settings, clock, watch, stored, client)
        with while_running(run):
            return run.go()


def _check_span(settings: Settings, account: state_store.Account) -> None:
    if settings.until and account.since and settings.until < account.since:
        raise errors.UsageError(
            f"--until {settings.until} is before {account.since}, which an earlier --since asked for",
            "say another --since too, or --since all",
        )


def plan(settings: Settings, clock: Clock) -> Forecast:
    """What ``sync`` would ask of the API. Touches nothing, needs no key. Raises WarehouseError."""
    found = planner.estimate(_first_state(settings, clock))
    unknown = "how far back the history goes is not known yet; --since DATE bounds the plan"

    def minutes(requests: int | None) -> float | None:
        return None if requests is None or not settings.rate else requests / settings.rate / 60

    return Forecast(
        account=settings.account,
        days=found.days,
        at_least=found.at_least,
        at_most=found.at_most,
        minutes_at_least=minutes(found.at_least),
        minutes_at_most=minutes(found.at_most),
        notes=(unknown,) if found.at_most is None else (),
    )


def _first_state(settings: Settings, clock: Clock) -> planner.PlannerState:
    """Where the walk would begin: with nothing held when there is no warehouse, or no such account in it."""
    url, account = warehouse.warehouse_url(settings.warehouse), None
    if warehouse.exists(url, wait=settings.lock_wait, clock=clock):
        engine = warehouse.open_warehouse(url, read_only=True, wait=settings.lock_wait, clock=clock)
        migrate.require_readable(engine)
        account = state_store.find_account(engine, settings.account)
    if account is None:
        return planner.start(load_state.options(settings, clock.now(), settings.since), planner.StoredState())
    since = None if settings.since_all else settings.since or account.since
    options = load_state.options(settings, clock.now(), since)
    return planner.start(
        options, load_state.load_stored_state(state_store.SyncStateStore(engine, account, clock.now), options).stored
    )
