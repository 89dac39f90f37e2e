"""Sync many accounts in parallel threads. Each account fails on its own; all share one rate limit per API host.

Accounts that have waited longest run first, so that each gets its turn even if the process is killed repeatedly.
"""

import logging
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from contextvars import Context
from datetime import UTC, datetime
from decimal import Decimal

from etl import logging_setup
from etl.clock import Clock
from etl.config import Accounts, Settings
from etl.errors import AppError, InterruptedRunError
from etl.extract.rate_limit import AccountRateLimiter, RateLimiter
from etl.load.accounts import last_completed_syncs
from etl.sync.plan import plan_account
from etl.sync.rate_limiters import RateLimiters
from etl.sync.results import AccountOutcome, FleetProgress, FleetResult, Progress, RequestPlan
from etl.sync.run import sync_account
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

log = logging.getLogger(__name__)

PROGRESS_SECONDS = 0.1
"""Time between two calls of ``on_progress``."""

INTERNAL_ERROR = 1
"""Exit code of an account whose sync crashed."""

_NEVER = datetime.min.replace(tzinfo=UTC)


def sync_accounts(
    accounts: Accounts,
    general: Settings,
    clock: Clock,
    on_progress: Callable[[FleetProgress], None],
    on_outcome: Callable[[AccountOutcome], None],
) -> FleetResult:
    """Sync every account of the shard, ``general.accounts_at_once`` in parallel.

    ``on_outcome`` is called for each account when it ends, in its thread and with its log context; ``on_progress``
    regularly, in the caller's thread. Errors of an account are never raised; they are in its outcome.

    After Ctrl-C the running accounts stop as a single sync does and no further account starts. A second Ctrl-C raises
    KeyboardInterrupt at once.
    """
    names = accounts_of_shard(accounts, general)
    with RateLimiters(general, clock) as rate_limiters:
        runner = FleetRunner(accounts, general, clock, rate_limiters, on_outcome)
        was_interrupted = runner.run(least_recent_first(names, _last_syncs(accounts, names, clock)), on_progress)
    return FleetResult(
        tuple(runner.outcomes[name] for name in names if name in runner.outcomes),
        tuple(name for name in names if name not in runner.outcomes),
        was_interrupted,
    )


def plan_accounts(
    accounts: Accounts, general: Settings, clock: Clock
) -> tuple[list[RequestPlan], list[AccountOutcome]]:
    """Plan each account of the shard, in the order of the TOML; accounts that cannot be planned are returned as
    outcomes."""
    plans, failed = list[RequestPlan](), list[AccountOutcome]()
    for name in accounts_of_shard(accounts, general):
        try:
            plans.append(plan_account(accounts.settings(name, clock.now()), clock))
        except AppError as problem:
            failed.append(AccountOutcome(name, problem.exit_code, problem=problem))
    return plans, failed


def accounts_of_shard(accounts: Accounts, general: Settings) -> list[str]:
    """The accounts this process syncs, in the order of the TOML."""
    return [name for name in accounts.names if general.shard is None or general.shard.has(name)]


def least_recent_first(names: Iterable[str], last_syncs: Mapping[str, datetime]) -> list[str]:
    """Accounts that were never synced come first, then those whose last sync ended earliest. The sort is stable."""
    return sorted(names, key=lambda name: last_syncs.get(name, _NEVER))


def _last_syncs(accounts: Accounts, names: Sequence[str], clock: Clock) -> dict[str, datetime]:
    """When each account last completed a sync. Accounts whose warehouse cannot be read are left out."""
    by_warehouse: dict[str, dict[str, datetime]] = {}
    found = {}
    for name in names:
        with suppress(AppError):  # reported by the account's own sync
            settings = accounts.settings(name, clock.now())
            if settings.warehouse not in by_warehouse:
                by_warehouse[settings.warehouse] = _completed_syncs(settings, clock)
            if last := by_warehouse[settings.warehouse].get(name):
                found[name] = last
    return found


def _completed_syncs(settings: Settings, clock: Clock) -> dict[str, datetime]:
    try:
        url = warehouse.warehouse_url(settings.warehouse)
        engine = warehouse.open_warehouse(url, read_only=True, wait=settings.lock_wait, clock=clock)
        migrate.require_readable(engine)
        return last_completed_syncs(engine)
    except Exception:  # only the order depends on it
        log.debug("cannot read last sync times from %s", settings.warehouse.rpartition("@")[2], exc_info=True)
        return {}


class FleetRunner:
    """Syncs accounts in a pool of threads and collects their outcomes."""

    def __init__(
        self,
        accounts: Accounts,
        general: Settings,
        clock: Clock,
        rate_limiters: RateLimiters,
        on_outcome: Callable[[AccountOutcome], None],
    ) -> None:
        self._accounts, self._general, self._clock, self._on_outcome = accounts, general, clock, on_outcome
        self._rate_limiters = rate_limiters
        self._started = clock.monotonic()
        self._cancelled = threading.Event()
        self._progress: dict[str, Progress] = {}
        self._lock = threading.Lock()
        self.outcomes: dict[str, AccountOutcome] = {}

    def run(self, names: Sequence[str], on_progress: Callable[[FleetProgress], None]) -> bool:
        """Sync the accounts in this order. Return True if Ctrl-C stopped them."""
        pool = ThreadPoolExecutor(self._general.accounts_at_once, thread_name_prefix="account")
        running = list[Future[None]]()

        def wait_for_all() -> None:
            # wait() alone never returns for accounts that were cancelled before they started
            while unfinished := [future for future in running if not future.done()]:
                wait(unfinished, timeout=PROGRESS_SECONDS)
                on_progress(self._total_progress(len(names)))

        try:
            try:
                for name in names:
                    running.append(pool.submit(Context().run, self._sync, name))  # each has its own log context
                wait_for_all()
            except KeyboardInterrupt:
                self._cancelled.set()
                pool.shutdown(wait=False, cancel_futures=True)
                wait_for_all()
            was_interrupted = self._cancelled.is_set()
        finally:
            self._cancelled.set()  # after any other error, running accounts must end too
            pool.shutdown(wait=False, cancel_futures=True)
        for future in running:
            if not future.cancelled() and (error := future.exception()):
                log.error("cannot report an account's outcome", exc_info=error)
        return was_interrupted

    def _total_progress(self, accounts: int) -> FleetProgress:
        every = list(self._progress.values())
        return FleetProgress(
            accounts_done=len(self.outcomes),
            accounts=accounts,
            requests=sum(one.requests for one in every),
            seconds=self._clock.monotonic() - self._started,
            hourly_values=sum(one.hourly_values for one in every),
            money=sum((one.money for one in every), Decimal(0)),
        )

    def _sync(self, name: str) -> None:
        """Sync one account in a pool thread. Never raises."""
        if self._cancelled.is_set():
            return
        logging_setup.bind_log_context(account=name)
        settings = None
        try:
            settings = self._accounts.settings(
                name, self._clock.now()
            )  # so that the outcome has them without a key too
            settings = self._accounts.settings(name, self._clock.now(), needs_key=True)
            if settings.exposed:
                log.error("%s", settings.exposed)
            result = sync_account(
                settings,
                self._clock,
                lambda progress: self._progress.update({name: progress}),
                self._rate_limiter(settings),
                self._cancelled,
            )
            outcome = AccountOutcome(name, result.exit_code, settings, result)
        except KeyboardInterrupt:
            problem = InterruptedRunError(f"account {name}: interrupted before its first request", "run it again")
            outcome = AccountOutcome(name, problem.exit_code, settings, problem=problem)
        except AppError as problem:
            outcome = AccountOutcome(name, problem.exit_code, settings, problem=problem)
        except Exception as crash:  # noqa: BLE001  # the other accounts go on
            outcome = AccountOutcome(name, INTERNAL_ERROR, settings, crash=crash)
        self.outcomes[name] = outcome
        self._on_outcome(outcome)

    def _rate_limiter(self, settings: Settings) -> AccountRateLimiter:
        """The limiter that accounts share, plus the account's own if its rate differs from the general one."""
        own = None if settings.rate == self._general.rate else RateLimiter(settings.rate, self._clock)
        return AccountRateLimiter(self._rate_limiters.of(settings), own)
