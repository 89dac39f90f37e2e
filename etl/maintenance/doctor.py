"""Looks at everything a sync leans on, in order, and at the service's own habits. Each step survives the one before.

Gathering is here; what is said of it is in ``advice``, what is asked of the service in ``questions``. Without ``--probe`` the
API meets one request at most, which carries no key; with it the key, and at most so many requests as there are topics.
"""

import logging
import os
import platform
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import datetime
from importlib import metadata
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from etl import __version__
from etl import config as said
from etl.clock import Clock
from etl.config import SETTINGS, Environment, Settings
from etl.errors import AppError, UsageError, WarehouseError, most_severe
from etl.extract.client import Client, ProbeResponse, Reachability, Timeouts, check_reachable
from etl.extract.rate_limit import RateLimiter
from etl.load.lock import account_lock, lock_file
from etl.load.state import find_account, open_account
from etl.maintenance import diagnostics, probe_store, probes
from etl.maintenance.diagnostics import Diagnostic, EffectiveSetting, Level, Package, WarehouseFile
from etl.maintenance.probes import ProbeBaseline, ProbeRequest, ProbeResponses, ProbeResult
from etl.models import Secret, TransportError
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate, postgres

log = logging.getLogger(__name__)

PACKAGE = "anticaptcha-etl"
LOCK_WAIT = 5.0
"""Seconds the warehouse is waited for: longer than the commits of a running sync."""
MOST_PER_SECOND = 1.0
"""A visit's pace, however fast ``--rate`` allows."""
TIMEOUTS = Timeouts(connect=10.0, read=20.0, write=10.0, pool=10.0, whole=30.0)


@dataclass(slots=True)
class DoctorReport:
    """What was found so far, in the order it was looked at. ``probes`` are the service's habits: just asked, or as probe_store."""

    now: datetime
    advice: list[Diagnostic] = field(default_factory=list)
    settings: tuple[EffectiveSetting, ...] = ()
    probes: list[ProbeResult] = field(default_factory=list)
    requests: int = 0
    quiet: bool = False

    @property
    def exit_code(self) -> int:
        return most_severe([one.exit_code for one in self.advice])

    @property
    def needs_attention(self) -> bool:
        return any(one.state in (Level.WARNING, Level.PROBLEM) for one in self.advice)


def run_diagnostics(given: Mapping[str, object], place: Environment, clock: Clock, *, probe: bool) -> DoctorReport:
    """Looks at everything. ``given`` is what the command line said. Raises KeyboardInterrupt alone: trouble is advice."""
    found = DoctorReport(clock.now())
    found.advice += [Diagnostic("program", Level.OK, f"{PACKAGE} {__version__}, Python {platform.python_version()}")]
    found.advice += diagnostics.of_packages(list(_packages()))
    try:
        settings = said.load(given, clock.now(), place)
    except UsageError as error:
        found.advice += [diagnostics.of_error("settings", error)]
        unknown = "key, warehouse and API were not looked at: which ones, the settings say"
        found.advice += [Diagnostic("the rest", Level.NOTE, unknown, "mend the settings, and look again")]
        return found
    found.quiet = settings.quiet
    found.settings = tuple(_told(settings))
    found.advice += diagnostics.of_settings(found.settings, settings.ignored)
    key = _look_at_key(given, place, clock, settings, found)
    url = _look_at_warehouse(settings, key, clock, found)
    if probe and key and url and not any(one.exit_code for one in found.advice):
        _ask(settings, key, url, clock, found)
        return found
    _look_at_api(settings, clock, found)
    if probe:
        found.advice.append(Diagnostic("probe", Level.NOTE, "nothing was asked", "mend the problems above first"))
    return found


# ---------------------------------------------------------------- the program, the settings, the key


def _packages() -> Iterator[Package]:
    try:
        needs = [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    except metadata.PackageNotFoundError:
        return
    for need in needs:
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            version = _version(need.name)
            fits = version is not None and need.specifier.contains(version, prereleases=True)
            yield Package(need.name, str(need.specifier), version, fits)


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _told(settings: Settings) -> Iterator[EffectiveSetting]:
    """Every setting; of URLs, which may hold passwords, the place alone."""
    ping = "set" if settings.ping_url else ""
    places = {"warehouse": _path(settings) or "refused", "api_url": _host(settings.api_url), "ping_url": ping}
    for name in SETTINGS:
        value = getattr(settings, name)
        text = places.get(name) or (
            ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        )
        yield EffectiveSetting(name, "all" if name == "since" and settings.since_all else text, settings.sources[name])


def _path(settings: Settings) -> str:
    try:
        return warehouse.name_of(warehouse.warehouse_url(settings.warehouse))
    except UsageError:
        return ""


def _host(api_url: str) -> str:
    parts = urlsplit(api_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _look_at_key(
    given: Mapping[str, object], place: Environment, clock: Clock, settings: Settings, found: DoctorReport
) -> Secret | None:
    """Whether the key is there. The path of its file is not said: what a doctor finds is shown around."""
    file = said.key_file(settings.account, given, place)
    try:
        loaded = said.load(given, clock.now(), place, needs_key=True)
    except UsageError as error:
        message = error.message.replace(f"{file}", "the key's file") if file else error.message
        found.advice += [diagnostics.of_error("key", UsageError(message, error.hint))]
        return None
    found.advice += diagnostics.of_key(loaded.sources["key"], loaded.exposed)
    return loaded.key


# ---------------------------------------------------------------- the warehouse


def _look_at_warehouse(settings: Settings, key: Secret | None, clock: Clock, found: DoctorReport) -> str | None:
    """The warehouse's URL, where it has one."""
    try:
        url = warehouse.warehouse_url(settings.warehouse)
        path = warehouse.warehouse_path(url)
        found.advice += diagnostics.of_site(_site(path)) if path else _of_server(url, clock)
        if warehouse.exists(url, wait=LOCK_WAIT, clock=clock):
            engine = warehouse.open_warehouse(url, read_only=True, wait=LOCK_WAIT, clock=clock)
            found.advice += [_schema(engine)]
            if migrate.current(engine) == migrate.revisions()[-1]:
                found.advice += _of_account(engine, settings, key, clock)
                found.probes = _kept_probes(engine, settings.account)
        found.advice += _of_lock(url, settings.account, clock)
    except AppError as error:
        found.advice += [diagnostics.of_error("warehouse", error)]
        return None
    except OSError as error:
        found.advice += [
            diagnostics.of_error(
                "warehouse", WarehouseError(f"it cannot be looked at: {error}", "mend its permissions")
            )
        ]
        return None
    return url


def _site(path: Path) -> WarehouseFile:
    has_folder = path.parent.is_dir()
    there = path if path.exists() else path.parent
    status = path.stat() if path.exists() else None
    return WarehouseFile(
        path=str(path),
        folder=str(path.parent),
        has_folder=has_folder,
        can_write=os.access(there, os.W_OK) and os.access(path.parent, os.W_OK),
        size=status and status.st_size,
        mode=status.st_mode & 0o777 if status and os.name == "posix" else 0,
        free=shutil.disk_usage(path.parent).free if has_folder else 0,
    )


def _schema(engine: Engine) -> Diagnostic:
    return diagnostics.of_schema(migrate.state(engine), migrate.current(engine), migrate.revisions()[-1])


def _of_account(engine: Engine, settings: Settings, key: Secret | None, clock: Clock) -> Iterator[Diagnostic]:
    """Whether a sync would take this key and these days for the account."""
    account = find_account(engine, settings.account)
    if key:
        try:
            _try_key(engine, settings, key, clock)
            if account:
                yield Diagnostic("account", Level.OK, f"a sync takes this key for account {account.name}")
        except UsageError as error:
            yield diagnostics.of_error("account", error)
    is_new_since = settings.since or settings.since_all
    if account and account.since and not is_new_since and settings.until and settings.until < account.since:
        yield diagnostics.of_span(settings.until, account.since)


def _try_key(engine: Engine, settings: Settings, key: Secret, clock: Clock) -> None:
    """Opens the account as a sync does, on a connection that writes nothing. Raises UsageError where a sync would."""
    with engine.connect() as connection:
        try:
            open_account(connection, settings.account, key, clock.now(), settings.key_changed)
        except DBAPIError as error:  # the account is new, or its key may change: it is right, and would be written now
            if "read-only" not in str(error.orig):
                raise


def _of_lock(url: str, account: str, clock: Clock) -> Iterator[Diagnostic]:
    """Whether a sync could have the account's lock. A file that is not there is not made: that a sync can, the site says."""
    path = warehouse.warehouse_path(url)
    if path and not os.path.lexists(lock_file(path, account)):
        return
    try:
        with account_lock(url, account, clock, wait=0):
            pass
    except WarehouseError as error:
        yield diagnostics.of_error("lock", error)


def _of_server(url: str, clock: Clock) -> Iterator[Diagnostic]:
    with warehouse.open_warehouse(url, read_only=True, wait=LOCK_WAIT, clock=clock).connect() as connection:
        server = postgres.describe(connection)
    yield from diagnostics.of_server(warehouse.name_of(url), server.version, may_write=server.may_write)


def _kept_probes(engine: Engine, account: str) -> list[ProbeResult]:
    with engine.connect() as connection:
        number = probe_store.account_id(connection, account)
        return [] if number is None else probe_store.probes(connection, number)


# ---------------------------------------------------------------- the API


def _look_at_api(settings: Settings, clock: Clock, found: DoctorReport) -> None:
    """One request without a key."""
    try:
        came = check_reachable(settings.api_url, clock, TIMEOUTS)
    except UsageError as error:
        found.advice += [diagnostics.of_error("api", error)]
        return
    found.requests += 1
    found.advice += _of_api(came, settings)


def _of_api(came: Reachability, settings: Settings) -> Iterator[Diagnostic]:
    is_named = settings.sources["api_url"] != "default"
    yield diagnostics.of_reach(came.failure, came.status, came.kind, _host(settings.api_url), is_named=is_named)
    if not came.failure:
        yield diagnostics.of_clock(came.requested_at, came.server_time)


class _Chart(NamedTuple):
    """Whose chart a visit's answers go into."""

    engine: Engine
    account: int
    known: ProbeBaseline


def _ask(settings: Settings, key: Secret, url: str, clock: Clock, found: DoctorReport) -> None:
    """The visit of ``--probe``. As in a sync, a warehouse that cannot be had costs no request."""
    try:
        with ExitStack() as stack:
            chart = None
            if warehouse.exists(url, wait=LOCK_WAIT, clock=clock):
                stack.enter_context(account_lock(url, settings.account, clock, wait=LOCK_WAIT))
                chart = _chart(settings, key, url, clock)
            heard = _visit(settings, key, clock, chart.known if chart else ProbeBaseline(), found)
            if chart:
                _keep(chart, heard, clock, found)
            else:
                found.advice.append(
                    Diagnostic("probe", Level.NOTE, "the answers are not kept: there is no warehouse to keep them in")
                )
    except AppError as error:
        found.advice += [diagnostics.of_error("probe", error)]


def _chart(settings: Settings, key: Secret, url: str, clock: Clock) -> _Chart:
    engine = warehouse.open_warehouse(url, wait=LOCK_WAIT, clock=clock)
    migrate.upgrade(engine)
    with engine.connect() as connection:
        account = open_account(connection, settings.account, key, clock.now(), settings.key_changed)
        return _Chart(engine, account.account_id, probe_store.known(connection, account.account_id))


def _visit(settings: Settings, key: Secret, clock: Clock, known: ProbeBaseline, found: DoctorReport) -> ProbeResponses:
    """Asks one question after the other; the first reply also tells of reach and clock."""
    heard: dict[ProbeRequest, ProbeResponse] = {}
    rate = min(settings.rate or MOST_PER_SECOND, MOST_PER_SECOND)
    jitter = random.Random().random  # noqa: S311  # of retries, which a visit does not make
    with Client(
        settings.api_url, key, RateLimiter(rate, clock), clock, jitter, concurrency=1, timeout=TIMEOUTS
    ) as client:
        while question := probes.next_probe(heard, known, clock.now(), settings.account):
            topic, window = question
            log.info("asking for %s", topic)
            heard[topic] = client.fetch_once(window)
        found.requests += client.requests
    first = heard[ProbeRequest.DAY].answer
    failure = first.reply if isinstance(first.reply, TransportError) else None
    kind = heard[ProbeRequest.DAY].headers.get("content-type", "")
    found.advice += _of_api(Reachability(first.requested_at, failure, first.status, first.server_time, kind), settings)
    found.advice.append(diagnostics.of_visit(client.requests, probes.fatal(heard), probes.failure(heard)))
    found.probes = probes.answers(heard, known, clock.now())
    return heard


def _keep(chart: _Chart, heard: ProbeResponses, clock: Clock, found: DoctorReport) -> None:
    with chart.engine.begin() as connection:
        changed = probe_store.keep(
            connection, chart.account, found.probes, probes.unknown_name_behaviours(heard), clock.now()
        )
    found.advice += [diagnostics.of_lesson(*change) for change in changed]
