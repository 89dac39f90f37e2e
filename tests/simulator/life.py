"""Play one life: its nights one after the other, with the invariants after each."""

import random
import shutil
import tempfile
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from etl.errors import AccountRejectedError, AppError, InterruptedRunError, WarehouseError
from etl.extract.journal import read_journals
from etl.models import TOTAL, ZERO_MEASURES, Finding, Severity, Window
from etl.responses import Response
from etl.sandbox.behaviour import ApiQuery, Fault, FaultKind
from etl.sync import writer
from etl.sync.results import SyncResult
from etl.warehouse import file_access
from tests.simulator import nights, stores
from tests.simulator.invariants import BrokenError, Checks, Ledger, ReceivedKey, has_own_hours, key_of, require
from tests.simulator.moments import NAMES, Moments
from tests.simulator.nights import Life, Night
from tests.simulator.scheduler import Scheduler
from tests.simulator.service import BEFORE_SENDING, WRONG_DATA, Service, draw
from tests.simulator.simulation import Simulation

ALLOWED_SKEW = timedelta(minutes=5)
REPORTED = ("closed days keep their spend", "the clock is right")
"""Blocking findings that tell what the service did: numbers that vanished."""


class _Killed(BaseException):
    pass


class LifeError(AssertionError):
    """A life that failed, and in which of its nights."""

    def __init__(self, life: Life, night: int, reason: BaseException) -> None:
        super().__init__(f"night {night}: {type(reason).__name__}: {reason}")
        self.life, self.night, self.reason = life, night, reason

    @property
    def kind(self) -> str:
        return f"{type(self.reason).__name__} {str(self.reason).partition(':')[0]}"


@dataclass
class Tally:
    """What has happened in some lives."""

    nights: int = 0
    requests: int = 0
    snapshots: int = 0
    kills: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)

    def add(self, other: "Tally") -> None:
        self.nights += other.nights
        self.requests += other.requests
        self.snapshots += other.snapshots
        self.kills += other.kills
        self.faults += other.faults
        self.events += other.events


def play(life: Life) -> Tally:
    """Play a life in a folder of its own. Raises LifeError."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="life", dir=memory if memory.is_dir() else None) as folder:
        player = Player(life, Path(folder))
        with player.simulation.installed(), closing(player.store):
            player.play()
        return player.tally


class Player:
    def __init__(self, life: Life, folder: Path) -> None:
        self.life, self.account = life, nights.account_of(life)
        self.saved, self.older = folder / "saved", folder / "older"
        (folder / "w").mkdir()
        kind = life.store
        self.store: stores.Store = (
            stores.MemoryFolder(folder / "w")
            if kind == "memory"
            else stores.DatabaseFolder(folder / "w", kind, starts_old=self.account.starts_old)
        )
        self.scheduler = Scheduler()
        self.behaviour = self.account.behaviour
        self.service = Service(self.account.spending, self.behaviour, lambda: self.scheduler.true_time)
        self.moments = Moments(self._kill, self._give_way, lambda: self.scheduler.is_dead)
        self.moments.on_append, self.moments.on_written = self._remember_response, self._received
        self.simulation = Simulation(self.scheduler, self.service, self.moments)
        self.now = self.account.now
        self.ledger = Ledger(self.account.spending)
        self.older_ledger: Ledger | None = None
        self.older_key = ""
        self.key = stores.KEY
        self.tally = Tally()
        self.night = Night(0)
        self.has_account = False

    # -- nights

    def play(self) -> None:
        total = self.life.nights + self.life.undisturbed
        for number in range(1, total + 1):
            night = nights.night_of(self.life, self.account, number)
            self.now += timedelta(hours=night.hours)
            if nights.is_left_out(self.life, number):
                continue
            try:
                self._play_night(night)
            except (KeyboardInterrupt, SystemExit, MemoryError):
                raise
            except BaseException as error:
                raise LifeError(self.life, number, error) from error
        self.tally.faults.update(self.service.faults_seen)
        self.tally.events.update({f"alert {name}": n for name, n in self.simulation.deliveries.counts.items()})
        self.tally.events["balances sent"] += len(self.service.balances)
        self.tally.requests = self.service.exchanges

    def _play_night(self, night: Night) -> None:
        again = draw(self.life.seed, night.number, "again")
        night = self._before(night)
        was_killed = self._run(night)
        while was_killed:
            self.now += timedelta(seconds=again.choice((20, 60, 600, 3000)))
            night = replace(night, put_back=False, jump=None, cancel_after=None)
            if night.kill and again.random() < 0.3:
                night = replace(night, kill=(again.choice(NAMES), again.choice((1, 1, 2, 4))))
            else:
                night = replace(night, kill=None)
            was_killed = self._run(night)
        if night.number % 4 == 1:
            self._back_up()

    def _before(self, night: Night) -> Night:
        """Change the world before the night; return the night as it is then."""
        self.tally.nights += 1
        if night.unknown and night.unknown != self.service.behaviour.unknown_queue:
            self.service.behaviour = replace(self.service.behaviour, unknown_queue=night.unknown)
            self.tally.events["unknown names behave differently"] += 1
        if night.put_back and self.older_ledger:
            self._put_back()
            if self.key != self.older_key:
                self.ledger.droppable |= self.ledger.uncommitted.keys()  # the journal of another key is set aside
                self.tally.events["older copy has another key"] += 1
                return replace(night, key_changed=True)
        if night.replay and self.has_account:
            night = replace(night, key_changed=False)  # replay needs no key
        if night.key_changed:
            self.key = f"{draw(self.life.seed, night.number, 'key').getrandbits(128):032x}"
            self.ledger.droppable |= self.ledger.uncommitted.keys()  # the journal of another key is set aside
            self.tally.events["key rotated"] += 1
        return night

    def _run(self, night: Night) -> bool:
        """Run the program once; return whether it was killed."""
        self.night = night
        self._prepare(night)
        cancelled = threading.Event()
        result: SyncResult | None = None
        error: AppError | None = None
        try:
            found: Any = self.scheduler.run(lambda: self._main(night, cancelled))
            result = found
        except _Killed as killed:
            self._after_kill(str(killed))
            return True
        except AppError as caught:
            error = caught
        finally:
            self.now = self.scheduler.true_time
        self._check_end(night, result, error)
        self.simulation.deliveries.check(self.store.alerts)
        self._check(night, error)
        return False

    def _main(self, night: Night, cancelled: threading.Event) -> SyncResult | None:
        if night.jump:
            self.scheduler.spawn(self._jump)
        if night.cancel_after is not None:
            self.scheduler.spawn(lambda: self._cancel(night.cancel_after or 0, cancelled))
        if night.replay and not self.has_account:
            night = replace(night, replay=False)
        return self.store.run(night, self.key, self.scheduler.clock, cancelled)

    def _jump(self) -> None:
        assert self.night.jump
        seconds, jump = self.night.jump
        self.scheduler.sleep(seconds)
        self.scheduler.clock_error += jump
        self.tally.events["clock jumped"] += 1

    def _cancel(self, seconds: float, cancelled: threading.Event) -> None:
        self.scheduler.sleep(seconds)
        cancelled.set()
        self.tally.events["cancelled"] += 1

    def _prepare(self, night: Night) -> None:
        source = draw(self.life.seed, night.number, "threads", self.now)
        self.scheduler.begin(source, self.now)
        file_access._accesses.clear()
        self.scheduler.clock_error = night.clock_error
        self.simulation.jitter = random.Random(source.random())
        self.moments.begin(night.kill, night.full_after, night.full_commit)
        writer.BATCH_SNAPSHOTS, writer.BATCH_SECONDS = night.batch, night.batch_seconds
        self.service.behaviour = replace(self.service.behaviour, date_skew_seconds=night.date_skew)
        self.service.begin_night()
        self.service.choose_fault = self._choose_fault
        of_balance = Fault(FaultKind(night.balance_fault)) if night.balance_fault else None
        self.service.choose_balance_fault = lambda: of_balance
        self.simulation.deliveries.down = night.down
        self.service.choose_connection = self._choose_connection
        self.service.choose_delay = lambda: source.random() * night.delay

    def _choose_fault(self, query: ApiQuery, attempt: int) -> Fault | None:
        night = self.night
        kinds = [kind for kind in night.fault_kinds if kind not in BEFORE_SENDING]
        if not kinds:
            return None
        r = draw(self.life.seed, night.number, *query, attempt)
        if r.randrange(100) >= night.fault_percent:
            return None
        kind = FaultKind(r.choice(kinds))
        is_unknown = query.queue not in (None, *self.account.spending.names)
        if (query.queue or query.soft_id or query.ip) and kind in (*WRONG_DATA, FaultKind.UNKNOWN_CODE):
            return None  # a name would be judged by a lie
        if is_unknown and kind in (FaultKind.NAN, FaultKind.NEGATIVE_VOLUME):
            return None
        return Fault(kind, seconds=r.choice((1, 20, 70, 130)), retry_after=r.choice(("1", "30", "400", "soon", "-1")))

    def _choose_connection(self) -> str | None:
        kinds = [kind for kind in self.night.fault_kinds if kind in BEFORE_SENDING]
        if not kinds or self.scheduler.random.randrange(100) >= self.night.fault_percent:
            return None
        return self.scheduler.random.choice(kinds)

    # -- kills

    def _kill(self, name: str) -> None:
        shutil.rmtree(self.saved, ignore_errors=True)
        self.saved.mkdir()
        self.store.copy(self.saved)
        self.scheduler.kill(_Killed(name))

    def _give_way(self) -> None:
        if self.scheduler.random.random() < 0.3:
            self.scheduler.give_way()

    def _after_kill(self, name: str) -> None:
        self.moments.close_files()
        self.store.restore(self.saved, with_journal=True)
        self.ledger.droppable |= {key for key in self.ledger.uncommitted if self._may_be_dropped(key)}
        self.tally.kills[name] += 1

    def _may_be_dropped(self, key: Any) -> bool:
        """An empty response that was not confirmed before the kill is requested again."""
        return any(
            one is not None and not has_own_hours(key, one, self.behaviour.grid_seconds)
            for one in self.ledger.received[key]
        )

    def _is_unreturned_check(self, key: Any) -> bool:
        """A final day that comes back without spend stays as it is stored, and the response is not."""
        series, start, _ = key
        answers = [one for one in self.ledger.received[key] if one is not None]
        has_spend = any(spent != ZERO_MEASURES for one in answers for spent in one.hours.values())
        return series == TOTAL and start.date() in self.ledger.final and not has_spend

    def _back_up(self) -> None:
        shutil.rmtree(self.older, ignore_errors=True)
        self.older.mkdir()
        self.store.copy(self.older)
        self.older_ledger, self.older_key = self.ledger.copied(), self.key

    def _put_back(self) -> None:
        """Put an older copy of the warehouse beside the present journal."""
        assert self.older_ledger
        if self.life.store == "postgresql":
            return
        self.store.restore(self.older, with_journal=False)
        present = self.ledger
        self.ledger = self.older_ledger.copied()
        committed = {key for key in self.ledger.received if not self.ledger.uncommitted[key]}
        self.ledger.received = present.received
        self.ledger.uncommitted = Counter({key: n for key, n in self._left().items() if key not in committed})
        self.ledger.droppable = {
            key for key in self.ledger.uncommitted if self._may_be_dropped(key)
        } | present.droppable
        self.tally.events["older copy put back"] += 1

    # -- responses

    def _remember_response(self, response: Response) -> None:
        self.scheduler.current.memo["response"] = response

    def _received(self) -> None:
        """The response of this thread is in the journal."""
        memo = self.scheduler.current.memo
        response, exchange = memo["response"], memo.get("exchange")
        window: Window = response.window
        key = key_of(window, _true_time(response))
        self.ledger.received.setdefault(key, []).append(exchange)
        self.ledger.uncommitted[key] += 1
        if exchange and exchange.is_wrong:
            self.ledger.wrong_days.add(window.day)

    # -- judging

    def _check_end(self, night: Night, result: SyncResult | None, error: AppError | None) -> None:
        self.has_account = self.has_account or result is not None
        if result:
            blocking = [
                one for one in result.findings if one.severity is Severity.BLOCKING and not self._is_explained(one)
            ]
            require(not blocking, "checks pass", "; ".join(one.message for one in blocking))
        elif isinstance(error, AccountRejectedError):
            require(any(kind in nights.FATAL for kind in night.fault_kinds), "errors have a cause", str(error))
        elif isinstance(error, InterruptedRunError):
            require(night.cancel_after is not None, "errors have a cause", str(error))
        elif isinstance(error, WarehouseError):
            require(self.moments.disk_was_full, "errors have a cause", f"{error} {error.hint}")
            self.tally.events["disk full"] += 1
        elif error:
            raise BrokenError(f"errors have a cause: {error}") from error

    def _is_explained(self, finding: Finding) -> bool:
        """Whether the service's own numbers cause a blocking finding: they changed between two requests, or were wrong."""
        if finding.check in REPORTED or self.ledger.wrong_days:
            return True
        is_unsteady = self.account.spending.unsteady > 0
        return finding.check == "members are within the total" and is_unsteady

    def _look(self, snapshots: int, revisions: int) -> stores.View:
        """What is stored on days with newer snapshots or revisions, read without disturbances."""
        self.moments.begin()
        self.scheduler.begin(random.Random(0), self.now)
        file_access._accesses.clear()
        found: Any = self.scheduler.run(lambda: self.store.view(snapshots, (), revisions))
        view: stores.View = found
        return view

    def _left(self) -> Counter[ReceivedKey]:
        """The responses in the journal."""
        segments = read_journals(self.store.journal)
        return Counter(key_of(one.window, _true_time(one)) for segment in segments for one in segment.responses)

    def _check(self, night: Night, error: AppError | None) -> None:
        left = self._left()
        if error:  # what is in the journal is loaded by the next run
            self.ledger.droppable |= {key for key in left if self._may_be_dropped(key)}
        elif not night.replay:  # which leaves it to the next sync
            require(not left, "the journal is empty", f"{len(left)} responses are left: {list(left)[:1]}")
        self.ledger.droppable |= {key for key in self.ledger.uncommitted if self._is_unreturned_check(key)}
        view = self._look(self.ledger.snapshots, self.ledger.revisions)
        checks = Checks(self.ledger, view, night, self.service.behaviour, left)
        self.tally.snapshots += sum(one.number > self.ledger.snapshots for one in view.snapshots)
        checks.run()
        self._check_balances(view.balances, must_have_last=night.is_undisturbed)
        if night.number == self.life.nights + self.life.undisturbed:
            checks.alive(self.now.date())

    def _check_balances(self, stored: Sequence[Decimal], *, must_have_last: bool) -> None:
        sent = self.service.balances
        unknown = {*stored} - {*sent}
        require(not unknown, "balances are answered", f"{unknown} were never sent")
        require(
            not must_have_last or stored[-1:] == (*sent[-1:],) != (),
            "the balance is read",
            f"{sent[-1:]} is not stored",
        )


def _true_time(response: Response) -> datetime:
    """The time of the request, by the server's clock if ours is too far ahead of it."""
    skew = timedelta(0) if response.server_time is None else response.server_time - response.requested_at
    return response.requested_at + (skew if skew < -ALLOWED_SKEW else timedelta(0))


@contextmanager
def unchanged_batches() -> Iterator[None]:
    before = writer.BATCH_SNAPSHOTS, writer.BATCH_SECONDS
    try:
        yield
    finally:
        writer.BATCH_SNAPSHOTS, writer.BATCH_SECONDS = before
