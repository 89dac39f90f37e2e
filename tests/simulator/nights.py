"""Draw lives and nights from a seed: an account, its service, and what happens in each night."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from itertools import groupby
from operator import itemgetter
from typing import Any, Literal

from etl.sandbox.behaviour import Behaviour, FaultKind
from etl.sandbox.dataset import QUEUE_NAMES
from tests.simulator import moments
from tests.simulator.service import BEFORE_SENDING, draw
from tests.simulator.spending import Queue, Spending

StoreKind = Literal["memory", "duckdb", "postgresql"]

FIRST_DAY = date(2026, 1, 5)
CUSTOM = ("Custom Queue 17", "Custom Queue 18")
MISSPELT = ("English ImagToText", "recaptcha proxyless")
APPS, IPS = (1011, 1022), ("192.0.2.10", "198.51.100.7")

HARMLESS = (
    FaultKind.UNKNOWN_CODE, FaultKind.NO_SLOT, FaultKind.HTML, FaultKind.HTML_500, FaultKind.HTML_502, FaultKind.HTML_503,
    FaultKind.RETRY_AFTER, FaultKind.REDIRECT, FaultKind.EMPTY, FaultKind.TRUNCATED, FaultKind.HALF_SENT, FaultKind.RESET,
    FaultKind.HANG, FaultKind.SLOW_DRIP, FaultKind.ENDLESS, FaultKind.NAN, FaultKind.NEGATIVE_VOLUME,
    FaultKind.VENDOR_PAGE, FaultKind.VENDOR_EXAMPLE, FaultKind.ERROR_ID_STRING,
)  # fmt: skip
WRONG = (FaultKind.NEGATIVE, FaultKind.NULL_DATA, FaultKind.NO_DATA)
FATAL = (
    FaultKind.IP_BLOCKED, FaultKind.ZERO_BALANCE, FaultKind.SUSPENDED, FaultKind.IP_NOT_ALLOWED, FaultKind.REFUSE_KEY,
)  # fmt: skip

EVENTS = (
    "kill",
    "faults",
    "clock",
    "jump",
    "full",
    "put_back",
    "cancel",
    "names",
    "key",
    "behaviour",
    "limit",
    "slow",
    "replay",
    "balance",
    "alerts",
)
"""What can be left out of a night, to find the shortest life that fails."""


@dataclass(frozen=True)
class Life:
    """An account and its nights. ``without`` has events as ``NIGHT:EVENT``, and nights as ``NIGHT:all``."""

    seed: str
    store: StoreKind = "memory"
    nights: int = 30
    without: frozenset[str] = frozenset()
    undisturbed: int = 5

    @property
    def command(self) -> str:
        without = f" --without {','.join(_in_ranges(self.without))}" if self.without else ""
        return f"python -m tests.simulator --life {self.seed} --store {self.store} --nights {self.nights}{without}"


def _in_ranges(without: Iterable[str]) -> Iterator[str]:
    """``3:kill``, and nights in a row as ``1-9:all``."""
    pairs = sorted((event, int(number)) for number, _, event in (name.partition(":") for name in without))
    for event, of_event in groupby(pairs, key=itemgetter(0)):
        numbers = [number for _, number in of_event]
        for _, run in groupby(enumerate(numbers), key=lambda pair: pair[1] - pair[0]):
            row = [number for _, number in run]
            yield f"{row[0]}:{event}" if len(row) == 1 else f"{row[0]}-{row[-1]}:{event}"


def without_of(text: str) -> frozenset[str]:
    """The inverse of what a life's command has after ``--without``."""
    found = set()
    for part in filter(None, text.split(",")):
        numbers, _, event = part.partition(":")
        first, _, last = numbers.partition("-")
        found |= {f"{number}:{event}" for number in range(int(first), int(last or first) + 1)}
    return frozenset(found)


@dataclass(frozen=True)
class Night:
    """One run of the program. ``hours`` passed since the run before it."""

    number: int
    hours: float = 24
    lookback: int = 2
    concurrency: int = 4
    batch: int = 1000
    batch_seconds: float = 5.0
    max_requests: int | None = None
    totals_only: bool = False
    queues: tuple[str, ...] = ()
    soft_ids: tuple[str, ...] = ()
    ips: tuple[str, ...] = ()
    trusted_queues: tuple[str, ...] = ()
    delay: float = 0.3
    fault_percent: int = 0
    fault_kinds: tuple[str, ...] = ()
    kill: tuple[str, int] | None = None
    full_after: int | None = None
    full_commit: int | None = None
    clock_error: timedelta = timedelta(0)
    date_skew: int = 0
    jump: tuple[float, timedelta] | None = None
    cancel_after: float | None = None
    put_back: bool = False
    key_changed: bool = False
    unknown: Literal["error", "zeros", "totals"] | None = None
    replay: bool = False
    balance: bool = True
    balance_fault: str | None = None
    has_alerts: bool = False
    """Evaluated after the sync, if it has a database."""
    down: frozenset[int] = frozenset()
    """Places of the URLs that accept no messages."""
    is_undisturbed: bool = False
    is_held_open: bool = True
    """A DuckDB file stays open between the program's own openings, which is faster."""

    @property
    def has_wrong_data(self) -> bool:
        return any(kind in WRONG for kind in self.fault_kinds)


@dataclass(frozen=True)
class Account:
    """What a life begins with."""

    spending: Spending
    behaviour: Behaviour
    now: datetime
    lookback: int
    queues: tuple[str, ...]
    soft_ids: tuple[str, ...]
    ips: tuple[str, ...]
    trusted: tuple[str, ...]
    calm: bool
    starts_old: bool = False
    kill_names: tuple[str, ...] = field(default=moments.NAMES, repr=False)


def account_of(life: Life) -> Account:
    r = draw(life.seed, "account")
    first = FIRST_DAY
    begins = first - timedelta(days=r.randint(1, 8))
    known = r.sample(QUEUE_NAMES, r.choice((1, 1, 2, 2, 3)))
    names = known + list(CUSTOM[: r.choice((0, 0, 0, 1, 2))])
    queues = tuple(_queue(r, name, begins, index) for index, name in enumerate(names))
    has_apps, has_ips = r.random() < 0.15, r.random() < 0.12
    lookback = r.choice((2, 2, 2, 1, 3))
    spending = Spending(
        r.randrange(10**9),
        queues,
        APPS if has_apps else (),
        IPS if has_ips else (),
        unsteady=r.choice((0, 20, 20, 60)),
        settles=r.choice((10, 30, 24 * lookback - 1, 24 * lookback - 1, 24 * lookback + 40)),
        idle_days=r.choice((0, 5, 15)),
    )
    grid = r.choice((0, 0, 0, -900, 1800))
    behaviour = Behaviour(
        idle=r.choice(("zero", "zero", "omit")),
        buckets=r.choice((24, 24, 24, 24, 24, 23, 25)),
        numbers=r.choice(("number", "number", "number", "number", "string", "noise")),
        listed=r.choice(("array", "array", "array", "array", "object")),
        unknown_queue=r.choice(("error", "error", "zeros", "totals")),
        off_hour="snap" if grid else r.choice(("snap", "shift")),
        grid_seconds=grid,
        running=r.random() < 0.7,
        unbegun=r.random() < 0.2,
        foreign_app=r.choice(("error", "zeros", "totals")),
        foreign_ip=r.choice(("zeros", "totals", "error")),
        duplicates="none" if r.random() < 0.8 else r.choice(("identical", "differing")),
        **_balance_of(life, begins),
    )
    return Account(
        spending,
        behaviour,
        datetime(first.year, first.month, first.day, r.randint(0, 23), r.randint(0, 59), tzinfo=UTC),
        lookback,
        tuple(name for name in names if name in CUSTOM) + (tuple(MISSPELT[:1]) if r.random() < 0.15 else ()),
        tuple(map(str, APPS)) if has_apps else (),
        IPS if has_ips else (),
        tuple(names) if r.random() < 0.2 or behaviour.unknown_queue == "totals" else (),
        calm=r.random() < 0.1,
        starts_old=life.store == "duckdb" and r.random() < 0.05,
    )


def _balance_of(life: Life, begins: date) -> dict[str, Any]:
    r = draw(life.seed, "balance")
    first = datetime(begins.year, begins.month, begins.day, tzinfo=UTC)
    days = [0, *(r.randrange(1, 150) for _ in range(r.choice((0, 1, 3))))]
    deposits = tuple((first + timedelta(days=day), Decimal(r.randint(1, 40))) for day in days)
    return {"deposits": deposits, "balance_form": r.choice(("number", "number", "string", "noise"))}


def _queue(r: random.Random, name: str, begins: date, index: int) -> Queue:
    if index == 0 or r.random() < 0.5:
        return Queue(name, begins, date(2100, 1, 1))
    first = begins + timedelta(days=r.choice((0, 5, 20, 40)))
    return Queue(name, first, first + timedelta(days=r.choice((3, 10, 30, 300))))


def night_of(life: Life, account: Account, number: int) -> Night:
    """The night ``number`` (from 1) of a life; the last ones are undisturbed."""
    night = _draw(life, account, number)
    night = replace(night, **_of_balance_and_alerts(life, account, number))
    nothing: dict[str, Any] = {}
    for event in _left_out(life, number):
        nothing |= _NOTHING[event]
    return replace(night, **nothing)


def _of_balance_and_alerts(life: Life, account: Account, number: int) -> dict[str, Any]:
    has_alerts = life.store != "memory"
    r = draw(life.seed, number, "balance and alerts")
    if number > life.nights or account.calm:
        return {"has_alerts": has_alerts}
    changes: dict[str, Any] = {"balance": r.random() < 0.9, "has_alerts": has_alerts and r.random() < 0.9}
    if r.random() < 0.2:
        changes["balance_fault"] = r.choice([kind.value for kind in (*HARMLESS, *FATAL)])
    if r.random() < 0.25:
        changes["down"] = frozenset(r.choice(((0,), (1,), (0, 1))))
    if has_alerts and r.random() < 0.3:
        changes["kill"] = r.choice(moments.ALERT_NAMES), r.choice((1, 1, 2))
    return changes


def _left_out(life: Life, number: int) -> list[str]:
    return [event for event in EVENTS if f"{number}:{event}" in life.without]


_DEFAULT = Night(0)
_NOTHING: dict[str, dict[str, object]] = {
    "kill": {"kill": None},
    "faults": {"fault_percent": 0, "fault_kinds": ()},
    "clock": {"clock_error": timedelta(0), "date_skew": 0},
    "jump": {"jump": None},
    "full": {"full_after": None, "full_commit": None},
    "put_back": {"put_back": False},
    "cancel": {"cancel_after": None},
    "names": {"queues": (), "soft_ids": (), "ips": (), "trusted_queues": ()},
    "key": {"key_changed": False},
    "behaviour": {"unknown": None},
    "limit": {"max_requests": None, "totals_only": False},
    "slow": {"delay": 0.3, "concurrency": 1},
    "replay": {"replay": False},
    "balance": {"balance": False, "balance_fault": None},
    "alerts": {"has_alerts": False, "down": frozenset()},
}


def _draw(life: Life, account: Account, number: int) -> Night:
    r = draw(life.seed, number)
    night = Night(
        number,
        hours=r.choice((24, 24, 24, 24, 24, 24, 24, 12, 12, 1, 48, 72, 23.5, 25)),
        lookback=account.lookback,
        concurrency=r.randint(1, 6),
        batch=r.choice((1, 3, 10, 1000, 1000, 1000)),
        batch_seconds=r.choice((0.3, 5.0, 5.0)),
        queues=account.queues,
        soft_ids=account.soft_ids,
        ips=account.ips,
        trusted_queues=account.trusted,
        is_held_open=r.random() < 0.9,
        delay=r.choice((0.05, 0.3, 0.3, 2.0, 30.0)),
    )
    if number > life.nights:
        return replace(night, is_undisturbed=True, hours=24, delay=0.3)
    return night if account.calm else _disturbed(r, life, account, night)


def _disturbed(r: random.Random, life: Life, account: Account, night: Night) -> Night:
    changes: dict[str, object] = {}
    if r.random() < 0.4:
        kinds = [kind.value for kind in HARMLESS] + [*BEFORE_SENDING]
        chosen = r.sample(kinds, r.choice((1, 2, 4, len(kinds))))
        chosen += [r.choice(WRONG).value] if r.random() < 0.08 else []
        chosen += [r.choice(FATAL).value] if r.random() < 0.1 else []
        changes |= {"fault_kinds": tuple(chosen), "fault_percent": r.choice((3, 10, 30))}
    if r.random() < 0.3:
        name = r.choice(account.kill_names)
        changes["kill"] = (
            name,
            r.choice((1, 1, 2, 3, 5, 8, 13)) if "a re" in name or "segment" in name else r.choice((1, 1, 2, 3)),
        )
    if r.random() < 0.06:
        changes["clock_error"] = r.choice((-1, 1)) * timedelta(seconds=r.choice((30, 120, 280, 900, 7200)))
    if r.random() < 0.03:
        changes["date_skew"] = r.choice((-240, 240, -3600, 3600))
    if r.random() < 0.04:
        changes["jump"] = r.random() * 5, r.choice((-1, 1)) * timedelta(seconds=r.choice((10, 200, 3600, 20_000)))
    if r.random() < 0.02:
        changes["full_after"] = r.randint(0, 12)
    elif r.random() < 0.02:
        changes["full_commit"] = r.randint(1, 3)
    if r.random() < 0.02:
        changes["cancel_after"] = r.random() * 4
    if r.random() < 0.05:
        changes["max_requests"] = r.choice((1, 3, 7, 20))
    changes |= _rare(r, life, account)
    return replace(night, **changes)  # type: ignore[arg-type]


def _rare(r: random.Random, life: Life, account: Account) -> dict[str, object]:
    changes: dict[str, object] = {}
    if r.random() < 0.02:
        changes["totals_only"] = True
    if r.random() < 0.08:
        changes["queues"] = r.choice(((), account.queues + MISSPELT, account.queues + CUSTOM))
    if r.random() < 0.05:
        changes["trusted_queues"] = r.choice(
            ((), account.trusted, tuple(name for name in account.queues if name in CUSTOM))
        )
    if r.random() < 0.04:
        changes["soft_ids"] = r.choice(((), ("1011",), ("1011", "999")))
        changes["ips"] = r.choice(((), ("203.0.113.9",), IPS[:1]))
    if r.random() < 0.05:
        changes["lookback"] = r.choice((0, 1, 2, 3, 4))
    if r.random() < 0.02:
        changes["key_changed"] = True
    if r.random() < 0.02:
        changes["put_back"] = True
    if r.random() < 0.03:
        changes["unknown"] = r.choice(("error", "zeros", "totals"))
    if life.store != "memory" and r.random() < 0.04:
        changes["replay"] = True
    return changes


def is_left_out(life: Life, number: int) -> bool:
    return f"{number}:all" in life.without
