"""Every account of the TOML, side by side in one process: each is a sync of its own that fails alone, and all share the pace.

Who has waited longest is first, so that a process that is killed again and again starves nobody.
"""

import logging
import queue
import threading
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from contextvars import Context
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from urllib.parse import urlsplit

from etl import logging_setup
from etl.clock import Clock
from etl.config import Accounts, Settings
from etl.errors import AppError, InterruptedRunError
from etl.extract.rate_limit import AccountRateLimiter, RateLimiter
from etl.load import state as state_store
from etl.sync import account
from etl.sync.request_loop import Run
from etl.sync.results import AccountOutcome, FleetProgress, FleetResult, Forecast, Progress
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate

log = logging.getLogger(__name__)

LOOK = 0.1
"""Seconds between two looks at how far all have come."""

INTERNAL_ERROR = 1
"""Exit code of an account that met a defect of the program."""

_NEVER = datetime.min.replace(tzinfo=UTC)


def sync(
    accounts: Accounts,
    general: Settings,
    clock: Clock,
    watch: Callable[[FleetProgress], None],
    tell: Callable[[AccountOutcome], None],
) -> FleetResult:
    """Syncs every account of the shard, ``general.accounts_at_once`` side by side. ``tell`` hears of each at its end, in its thread
    and with its log lines' fields; ``watch`` of all of them, now and then, in the caller's.

    What becomes of an account is raised nowhere: it is in what comes back. At a KeyboardInterrupt every account ends as a single
    sync does, and those that have not begun do not begin; a second one is raised without waiting for that.
    """
    names = shard(accounts, general)
    together = FleetRunner(order(names, _last_finished(accounts, names, clock)), accounts, general, clock, tell)
    ended, was_interrupted = together.run(watch)
    return FleetResult(
        tuple(ended[name] for name in names if name in ended),
        tuple(name for name in names if name not in ended),
        was_interrupted,
    )


def plan(accounts: Accounts, general: Settings, clock: Clock) -> tuple[list[Forecast], list[AccountOutcome]]:
    """What ``sync`` would ask for each account of the shard, in the order of the TOML; and which have no answer, and why."""
    forecasts, failed = list[Forecast](), list[AccountOutcome]()
    for name in shard(accounts, general):
        try:
            forecasts.append(account.plan(accounts.settings(name, clock.now()), clock))
        except AppError as problem:
            failed.append(AccountOutcome(name, problem.exit_code, problem=problem))
    return forecasts, failed


def shard(accounts: Accounts, general: Settings) -> list[str]:
    """The accounts that are this process's, in the order of the TOML."""
    return [name for name in accounts.names if general.shard is None or general.shard.has(name)]


def order(names: Sequence[str], finished: Mapping[str, datetime]) -> list[str]:
    """Names as they are synced: first those that never finished a sync, then by when their last one ended, the oldest first; where
    that is the same, as they came."""
    return sorted(names, key=lambda name: finished.get(name, _NEVER))


def _last_finished(accounts: Accounts, names: Sequence[str], clock: Clock) -> dict[str, datetime]:
    """When accounts last finished a sync, as far as their warehouses tell; what is wrong with one of them its own sync will say."""
    told: dict[str, dict[str, datetime]] = {}
    finished = {}
    for name in names:
        with suppress(AppError):
            settings = accounts.settings(name, clock.now())
            if settings.warehouse not in told:
                told[settings.warehouse] = _told(settings, clock)
            if at := told[settings.warehouse].get(name):
                finished[name] = at
    return finished


def _told(settings: Settings, clock: Clock) -> dict[str, datetime]:
    try:
        url = warehouse.warehouse_url(settings.warehouse)
        engine = warehouse.open_warehouse(url, read_only=True, wait=settings.lock_wait, clock=clock)
        migrate.require_readable(engine)
        return state_store.last_completed_syncs(engine)
    except Exception:  # no order is worth a sync
        log.debug(
            "%s does not tell when its accounts were synced", settings.warehouse.rpartition("@")[2], exc_info=True
        )
        return {}


class _Bell:
    """Interrupts one account's sync from another thread, once and in its own thread, as Ctrl-C does the main one."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._thread = threading.get_ident()
        self._rung = threading.Event()
        self._run: Run | None = None

    @property
    def clock(self) -> Clock:
        """One whose sleepers hear the bell as long as nothing runs: who waits for what others hold."""
        return replace(self._clock, sleep=self._sleep)

    def _sleep(self, seconds: float) -> None:
        if self._run or threading.get_ident() != self._thread:
            self._clock.sleep(seconds)
        elif self._rung.wait(seconds):
            raise KeyboardInterrupt

    @contextmanager
    def over(self, run: Run) -> Iterator[None]:
        """From now on it is the run that hears of it."""
        self._run = run
        if self._rung.is_set():
            run.interrupt()
        yield

    def ring(self) -> None:
        self._rung.set()
        if self._run:
            self._run.interrupt()


class FleetRunner:
    """Threads that each take the next account when they are done with one."""

    def __init__(
        self,
        names: Sequence[str],
        accounts: Accounts,
        general: Settings,
        clock: Clock,
        tell: Callable[[AccountOutcome], None],
    ) -> None:
        self._accounts, self._general, self._clock, self._tell = accounts, general, clock, tell
        self._number = len(names)
        self._waiting = deque(names)
        self._ended: dict[str, AccountOutcome] = {}
        self._progress: dict[str, Progress] = {}
        self._paces: dict[str, RateLimiter] = {}
        self._bells: set[_Bell] = set()
        self._threads: set[threading.Thread] = set()
        self._left: queue.SimpleQueue[None] = queue.SimpleQueue()
        self._is_over = False
        self._lock = threading.Lock()

    def run(self, watch: Callable[[FleetProgress], None]) -> tuple[dict[str, AccountOutcome], bool]:
        """How each account ended that was begun, and whether there was an interrupt."""
        try:
            for _ in range(min(self._general.accounts_at_once, self._number)):
                thread = threading.Thread(target=self._work, name="account", daemon=True)
                self._threads.add(thread)
                thread.start()
            self._wait(watch)
        except KeyboardInterrupt:
            self._interrupt()
            self._wait(watch)
        return self._ended, self._is_over

    def _wait(self, watch: Callable[[FleetProgress], None]) -> None:
        """Until no thread is at work. Not by ``join``, which before Python 3.13 takes a thread for dead when a signal comes."""
        while self._threads:
            with suppress(queue.Empty):
                self._left.get(timeout=LOOK)
            watch(self._progress_of_all())

    def _progress_of_all(self) -> FleetProgress:
        far = list(self._progress.values())
        return FleetProgress(
            accounts_done=len(self._ended),
            accounts=self._number,
            requests=sum(one.requests for one in far),
            facts=sum(one.facts for one in far),
            money=sum((one.money for one in far), Decimal(0)),
        )

    def _interrupt(self) -> None:
        with self._lock:
            self._is_over = True
            for bell in self._bells:
                bell.ring()

    # -- in a thread of an account

    def _work(self) -> None:
        try:
            while begun := self._begin():
                Context().run(self._sync, *begun)  # its log lines' fields end with it
        finally:
            self._threads.discard(threading.current_thread())
            self._left.put(None)

    def _begin(self) -> tuple[str, _Bell] | None:
        with self._lock:
            if self._is_over or not self._waiting:
                return None
            bell = _Bell(self._clock)
            self._bells.add(bell)
            return self._waiting.popleft(), bell

    def _sync(self, name: str, bell: _Bell) -> None:
        """One account, from its settings to what is told of it."""
        logging_setup.about(account=name)
        settings = None
        try:
            settings = self._accounts.settings(name, self._clock.now())  # known also where there is no key
            settings = self._accounts.settings(name, self._clock.now(), needs_key=True)
            if settings.exposed:
                log.warning("%s", settings.exposed)
            summary = account.sync(settings, bell.clock, self._watch(name), self._share(settings), bell.over)
            ended = AccountOutcome(name, summary.exit_code, settings, summary)
        except KeyboardInterrupt:
            problem = InterruptedRunError(f"account {name}: interrupted before its first request", "run it again")
            ended = AccountOutcome(name, problem.exit_code, settings, problem=problem)
        except AppError as problem:
            ended = AccountOutcome(name, problem.exit_code, settings, problem=problem)
        except Exception as defect:  # noqa: BLE001 - one account's; the others go on
            ended = AccountOutcome(name, INTERNAL_ERROR, settings, defect=defect)
        with self._lock:
            self._bells.discard(bell)
        self._ended[name] = ended
        self._tell(ended)

    def _watch(self, name: str) -> Callable[[Progress], None]:
        def watch(progress: Progress) -> None:
            self._progress[name] = progress

        return watch

    def _share(self, settings: Settings) -> AccountRateLimiter:
        """The account's share of its host's pace, and a pace of its own where its rate is another."""
        host = urlsplit(settings.api_url).netloc.lower()
        with self._lock:
            whole = self._paces.setdefault(host, RateLimiter(self._general.rate, self._clock))
        return AccountRateLimiter(
            whole, None if settings.rate == self._general.rate else RateLimiter(settings.rate, self._clock)
        )
