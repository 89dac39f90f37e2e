"""The two ways in: ``sync`` opens the doors for a run, ``plan`` only looks."""

import logging
import random
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack, nullcontext

from etl import errors, logs
from etl.clock import Clock
from etl.extract import walk
from etl.extract.client import Client
from etl.extract.pace import Pace, Share
from etl.load import ledger
from etl.load.lock import one_sync
from etl.pipeline import gather
from etl.pipeline.run import Run
from etl.pipeline.words import Forecast, Progress, Summary
from etl.settings import Settings
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

log = logging.getLogger(__name__)


_making = threading.Lock()
"""Of accounts side by side for whom there is no warehouse yet, or an older one, one makes it."""


def sync(
    settings: Settings,
    clock: Clock,
    watch: Callable[[Progress], None],
    pace: Pace | Share | None = None,
    while_running: Callable[[Run], AbstractContextManager[object]] = nullcontext,
) -> Summary:
    """Brings one account's warehouse up to date. What is held by others is waited for, at its start (before any request) and at
    each commit, ``settings.lock_wait`` seconds at most.

    An account beside others has a ``pace`` that it shares with them, in place of its own, and is ``while_running`` one that another
    thread can interrupt.

    Raises UsageError, AccountRefusedError, WarehouseError; KeyboardInterrupt becomes InterruptedRunError once what was taken
    in is committed.
    """
    logs.about(account=settings.account)
    if settings.key is None:
        raise errors.UsageError("sync needs the client key", "export ANTICAPTCHA_CLIENT_KEY=...")
    url = warehouse.warehouse_url(settings.warehouse)
    with _making:
        is_new = not warehouse.exists(url, wait=settings.lock_wait, clock=clock)
        engine = warehouse.open_warehouse(url, wait=settings.lock_wait, clock=clock)
        if is_new:
            log.warning("there was no warehouse yet: created %s", warehouse.name_of(engine.url))
    with ExitStack() as stack:
        stack.enter_context(one_sync(url, settings.account, clock, wait=settings.lock_wait))
        if migrate.state(engine) != "current":
            with _making:
                migrate.upgrade(engine)
        jitter = random.Random().random  # noqa: S311  # spreads retries, guards nothing
        client = stack.enter_context(
            Client(settings.api_url, settings.key, pace or Pace(settings.rate, clock), clock, jitter, settings.concurrency)
        )
        with engine.connect() as connection:
            account = ledger.open_account(connection, settings.account, settings.key, clock.now(), settings.key_changed)
            if settings.since or settings.since_all:
                account = ledger.remember_since(connection, account, settings.since)
            _check_span(settings, account)
            held = ledger.Ledger(engine, account, clock.now)
            with held.through(connection):
                run = Run(settings, clock, watch, held, client)
        with while_running(run):
            return run.go()


def _check_span(settings: Settings, account: ledger.Account) -> None:
    if settings.until and account.since and settings.until < account.since:
        raise errors.UsageError(
            f"--until {settings.until} is before {account.since}, which an earlier --since asked for",
            "say another --since too, or --since all",
        )


def plan(settings: Settings, clock: Clock) -> Forecast:
    """What ``sync`` would ask of the API. Touches nothing, needs no key. Raises WarehouseError."""
    found = walk.forecast(_first_state(settings, clock))
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


def _first_state(settings: Settings, clock: Clock) -> walk.State:
    """Where the walk would begin: with nothing held when there is no warehouse, or no such account in it."""
    url, account = warehouse.warehouse_url(settings.warehouse), None
    if warehouse.exists(url, wait=settings.lock_wait, clock=clock):
        engine = warehouse.open_warehouse(url, read_only=True, wait=settings.lock_wait, clock=clock)
        migrate.require_readable(engine)
        account = ledger.find_account(engine, settings.account)
    if account is None:
        return walk.begin(gather.wishes(settings, clock.now(), settings.since), walk.Held())
    since = None if settings.since_all else settings.since or account.since
    wishes = gather.wishes(settings, clock.now(), since)
    return walk.begin(wishes, gather.gathered(ledger.Ledger(engine, account, clock.now), wishes).held)
