"""Open the warehouse and the API client, lock the account, and run its sync."""

import ctypes
import logging
import os
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from etl import errors, logging_setup
from etl.clock import Clock
from etl.config import Settings
from etl.extract.client import Client
from etl.extract.rate_limit import AccountRateLimiter, RateLimiter
from etl.load import accounts
from etl.load.lock import account_lock
from etl.load.state import SyncStateStore
from etl.secret import Secret
from etl.sync.account_sync import AccountSync
from etl.sync.rate_limiters import RateLimiters
from etl.sync.results import Progress, SyncResult
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate
from etl.warehouse.account_files import journal_prefix
from etl.warehouse.reading import reader_of

if TYPE_CHECKING:
    import sqlalchemy as sa

log = logging.getLogger(__name__)

_M_ARENA_MAX = -8
"""glibc's number of the setting, from its malloc.h."""

_creating = threading.Lock()
"""Locked while a warehouse is created or migrated, so that accounts running in parallel do it once."""


def sync_account(
    settings: Settings,
    clock: Clock,
    on_progress: Callable[[Progress], None],
    rate_limiter: RateLimiter | AccountRateLimiter | None = None,
    cancelled: threading.Event | None = None,
) -> SyncResult:
    """Bring one account's warehouse up to date.

    Wait up to ``settings.lock_wait`` seconds for locks of other programs: once before the first request, then at
    each commit. Accounts that run in parallel pass a shared ``rate_limiter`` and an event that ends the sync as
    Ctrl-C ends a single one.

    Raises UsageError, AccountRejectedError, WarehouseError; InterruptedRunError after everything received was
    committed.
    """
    logging_setup.bind_log_context(account=settings.account)
    if settings.key is None:
        raise errors.UsageError("sync needs the client key", "export ANTICAPTCHA_CLIENT_KEY=...")
    _limit_memory_growth()
    cancelled = cancelled or threading.Event()
    is_running = threading.Event()
    url = warehouse.warehouse_url(settings.warehouse)

    def sleep(seconds: float) -> None:
        if cancelled.is_set() and not is_running.is_set():  # once running, the request loop handles it
            raise KeyboardInterrupt
        clock.sleep(seconds)

    waiting_clock = replace(clock, sleep=sleep)
    engine = _open_or_create(url, settings, waiting_clock)
    with ExitStack() as stack:
        stack.enter_context(account_lock(url, settings.account, waiting_clock, wait=settings.lock_wait))
        rate_limiter = rate_limiter or stack.enter_context(RateLimiters(settings, clock)).of(settings)
        jitter = random.Random().random  # noqa: S311 - spreads retries
        client = Client(settings.api_url, settings.key, rate_limiter, clock, jitter)
        stack.enter_context(client)
        with _current_warehouse(engine) as connection:
            store = _open_account(connection, engine, settings, settings.key, clock)
            with store.using(connection):
                prefix = _journal_prefix(url, settings)
                sync = AccountSync(settings, clock, on_progress, store, client, prefix, cancelled)
        is_running.set()
        return sync.run()


def _limit_memory_growth() -> None:
    """Let all threads allocate from one arena of glibc: 177 MB instead of 198 after 7,300 requests (measured)."""
    with suppress(OSError, AttributeError, TypeError):
        ctypes.CDLL(None).mallopt(_M_ARENA_MAX, 1)


def _journal_prefix(url: str, settings: Settings) -> Path | None:
    """The path of the journal; None if the state folder of a warehouse on a server cannot be used."""
    prefix = journal_prefix(url, settings.account, settings.state_folder)
    try:
        prefix.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(prefix.parent, os.W_OK):
            return prefix
        problem: object = "it is not writable"
    except OSError as error:
        problem = error.strerror
    text = "cannot use the state folder %s: %s. If this sync is killed, it requests again what it had not committed. %s"
    log.warning(text, prefix.parent, problem, "Name a folder with --state-folder.")
    return None


def _open_or_create(url: str, settings: Settings, clock: Clock) -> "sa.Engine":
    with _creating:
        is_new = not warehouse.exists(url, wait=settings.lock_wait, clock=clock)
        engine = warehouse.open_warehouse(url, wait=settings.lock_wait, clock=clock)
        if is_new:
            log.info("created a new warehouse at %s", warehouse.name_of(engine.url))
    return engine


@contextmanager
def _current_warehouse(engine: "sa.Engine") -> "Iterator[sa.Connection]":
    """A connection to the warehouse, which is upgraded first if it is not current."""
    with engine.connect() as connection:
        is_current = migrate.state(reader_of(connection)) == "current"
        connection.rollback()
        if not is_current:
            with _creating:
                migrate.upgrade_on(connection)
        yield connection


def _open_account(
    connection: "sa.Connection", engine: "sa.Engine", settings: Settings, key: Secret, clock: Clock
) -> SyncStateStore:
    account = accounts.open_account(connection, settings.account, key, clock.now(), settings.key_changed)
    if (settings.since or settings.since_all) and account.since != settings.since:
        account = accounts.save_since(connection, account, settings.since)
    if settings.until and account.since and settings.until < account.since:
        raise errors.UsageError(
            f"--until {settings.until} is before the saved --since {account.since}",
            "pass an earlier --since, or --since all",
        )
    return SyncStateStore(engine, account, clock.now)
