"""Check everything a sync depends on, in order; a failed check does not stop the others.

Sends at most one request, without the key. With ``probe``, sends the requests of ``probes`` instead, with the key.
"""

import logging
import os
import platform
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from urllib.parse import urlsplit

from packaging.requirements import Requirement
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from etl import __version__, config
from etl.clock import Clock
from etl.config import SETTINGS, Environment, Settings
from etl.errors import AppError, UsageError, WarehouseError, most_severe
from etl.extract.client import Client, ProbeResponse, Reachability, check_reachable
from etl.extract.rate_limit import RateLimiter
from etl.extract.transport import Timeouts
from etl.load.accounts import find_account, open_account
from etl.load.lock import account_lock, lock_file
from etl.maintenance import diagnostics, probe_store, probes
from etl.maintenance.diagnostics import Diagnostic, EffectiveSetting, Level, Package, WarehouseFile
from etl.maintenance.probe_answers import answers
from etl.maintenance.probes import ProbeBaseline, ProbeRequest, ProbeResponses, ProbeResult
from etl.responses import TransportError
from etl.secret import Secret
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate, postgres

log = logging.getLogger(__name__)

PACKAGE = "anticaptcha-etl"
LOCK_TIMEOUT = 5.0
"""Seconds to wait for the warehouse; longer than a commit of a running sync."""
MAX_PROBES_PER_SECOND = 1.0
"""However fast ``--rate`` allows."""
TIMEOUTS = Timeouts(connect=10.0, read=20.0, write=10.0, pool=10.0, total=30.0)


@dataclass(slots=True)
class DoctorReport:
    """The results so far. ``probes``: answers about the API's behaviour, new or stored."""

    now: datetime
    diagnostics: list[Diagnostic] = field(default_factory=list)
    settings: tuple[EffectiveSetting, ...] = ()
    probes: list[ProbeResult] = field(default_factory=list)
    requests: int = 0
    quiet: bool = False

    @property
    def exit_code(self) -> int:
        return most_severe([one.exit_code for one in self.diagnostics])

    @property
    def needs_attention(self) -> bool:
        return any(one.level in (Level.WARNING, Level.PROBLEM) for one in self.diagnostics)


def run_diagnostics(
    given: Mapping[str, object], environment: Environment, clock: Clock, *, probe: bool
) -> DoctorReport:
    """Run all checks; errors become diagnostics. ``given``: options of the command line."""
    report = DoctorReport(clock.now())
    program = f"{PACKAGE} {__version__}, Python {platform.python_version()}"
    report.diagnostics += [Diagnostic("program", Level.OK, program)]
    report.diagnostics += diagnostics.check_packages(list(_packages()))
    try:
        settings = config.load(given, clock.now(), environment)
    except UsageError as error:
        report.diagnostics += [
            diagnostics.from_error("settings", error),
            Diagnostic("the rest", Level.NOTE, "key, warehouse and API were not checked", "fix the settings first"),
        ]
        return report
    report.quiet = settings.quiet
    report.settings = tuple(_effective_settings(settings))
    report.diagnostics += diagnostics.check_settings(report.settings, settings.ignored)
    key = _check_key(given, environment, clock, settings, report)
    url = _check_warehouse(settings, key, clock, report)
    if probe and key and url and not report.exit_code:
        _probe(settings, key, url, clock, report)
        return report
    _check_api(settings, clock, report)
    if probe:
        report.diagnostics.append(Diagnostic("probe", Level.NOTE, "no requests sent", "fix the problems above first"))
    return report


def _packages() -> Iterator[Package]:
    try:
        requirements = [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    except metadata.PackageNotFoundError:
        return
    for one in requirements:
        if one.marker is None or one.marker.evaluate({"extra": ""}):
            version = _installed_version(one.name)
            fits = version is not None and one.specifier.contains(version, prereleases=True)
            yield Package(one.name, str(one.specifier), version, fits)


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _effective_settings(settings: Settings) -> Iterator[EffectiveSetting]:
    """Yield every setting. URLs may hold passwords, so only their host and path are shown."""
    try:
        warehouse_name = warehouse.name_of(warehouse.warehouse_url(settings.warehouse))
    except UsageError:
        warehouse_name = "invalid"
    shown = {
        "warehouse": warehouse_name,
        "api_url": _without_password(settings.api_url),
        "ping_url": "set" if settings.ping_url else "",
        "since": "all" if settings.since_all else "",
    }
    for name in SETTINGS:
        value = getattr(settings, name)
        text = ", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value)
        yield EffectiveSetting(name, shown.get(name) or text, settings.sources[name])


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _check_key(
    given: Mapping[str, object], environment: Environment, clock: Clock, settings: Settings, report: DoctorReport
) -> Secret | None:
    """Return the key, if there is one. The path of its file is left out: people share this output."""
    file = config.key_file(settings.account, given, environment)
    try:
        loaded = config.load(given, clock.now(), environment, needs_key=True)
    except UsageError as error:
        message = error.message.replace(f"{file}", "the key file") if file else error.message
        report.diagnostics += [diagnostics.from_error("key", UsageError(message, error.hint))]
        return None
    report.diagnostics += diagnostics.check_key(loaded.sources["key"], loaded.exposed)
    return loaded.key


def _check_warehouse(settings: Settings, key: Secret | None, clock: Clock, report: DoctorReport) -> str | None:
    """Return the URL of the warehouse, if a sync could use it."""
    try:
        url = warehouse.warehouse_url(settings.warehouse)
        path = warehouse.warehouse_path(url)
        engine = None
        if not path or path.parent.is_dir():
            if warehouse.exists(url, wait=LOCK_TIMEOUT, clock=clock):
                engine = warehouse.open_warehouse(url, read_only=True, wait=LOCK_TIMEOUT, clock=clock)
            if path and engine and migrate.is_copy(engine):
                created_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
                report.diagnostics += [diagnostics.published_copy(str(path), created_at)]
                return None
        report.diagnostics += diagnostics.check_file(_file(path)) if path else _check_server(url, clock)
        if engine:
            newest, revision = migrate.revisions()[-1], migrate.current(engine)
            report.diagnostics += [diagnostics.check_schema(migrate.state(engine), revision, newest)]
            if revision == newest:
                report.diagnostics += _check_account(engine, settings, key, clock)
                report.probes = _stored_probes(engine, settings.account)
        report.diagnostics += _check_lock(url, settings.account, clock)
    except AppError as error:
        report.diagnostics += [diagnostics.from_error("warehouse", error)]
        return None
    except OSError as error:
        unreadable = WarehouseError(f"cannot be read: {error}", "check its permissions with ls -l")
        report.diagnostics += [diagnostics.from_error("warehouse", unreadable)]
        return None
    return url


def _file(path: Path) -> WarehouseFile:
    has_folder, status = path.parent.is_dir(), path.stat() if path.exists() else None
    return WarehouseFile(
        path=str(path),
        folder=str(path.parent),
        has_folder=has_folder,
        can_write=all(os.access(one, os.W_OK) for one in (path if status else path.parent, path.parent)),
        size=status and status.st_size,
        mode=status.st_mode & 0o777 if status and os.name == "posix" else 0,
        free=shutil.disk_usage(path.parent).free if has_folder else 0,
    )


def _check_account(engine: Engine, settings: Settings, key: Secret | None, clock: Clock) -> Iterator[Diagnostic]:
    """Report whether a sync would accept this key and these days for the account."""
    account = find_account(engine, settings.account)
    if key:
        try:
            _try_key(engine, settings, key, clock)
            if account:
                yield Diagnostic("account", Level.OK, f"the key matches account '{account.name}'")
        except UsageError as error:
            yield diagnostics.from_error("account", error)
    has_new_since = settings.since or settings.since_all
    if account and account.since and not has_new_since and settings.until and settings.until < account.since:
        yield diagnostics.until_before_since(settings.until, account.since)


def _try_key(engine: Engine, settings: Settings, key: Secret, clock: Clock) -> None:
    """Open the account as a sync does, on a read-only connection. Raises UsageError where a sync would."""
    with engine.connect() as connection:
        try:
            open_account(connection, settings.account, key, clock.now(), settings.key_changed)
        except DBAPIError as error:  # the key was accepted, and its hash would now be written
            if "read-only" not in str(error.orig):
                raise


def _check_lock(url: str, account: str, clock: Clock) -> Iterator[Diagnostic]:
    """Report whether another sync holds the account's lock. Does not create the lock file."""
    path = warehouse.warehouse_path(url)
    if path and not os.path.lexists(lock_file(path, account)):
        return
    try:
        with account_lock(url, account, clock, wait=0):
            pass
    except WarehouseError as error:
        yield diagnostics.from_error("lock", error)


def _check_server(url: str, clock: Clock) -> Iterator[Diagnostic]:
    with warehouse.open_warehouse(url, read_only=True, wait=LOCK_TIMEOUT, clock=clock).connect() as connection:
        server = postgres.describe(connection)
    yield from diagnostics.check_server(warehouse.name_of(url), server.version, may_write=server.may_write)


def _stored_probes(engine: Engine, account: str) -> list[ProbeResult]:
    with engine.connect() as connection:
        account_id = probe_store.find_account_id(connection, account)
        return [] if account_id is None else probe_store.latest_results(connection, account_id)


def _check_api(settings: Settings, clock: Clock, report: DoctorReport) -> None:
    """Send one request without the key."""
    try:
        result = check_reachable(settings.api_url, clock, TIMEOUTS)
    except UsageError as error:
        report.diagnostics += [diagnostics.from_error("api", error)]
        return
    report.requests += 1
    report.diagnostics += _diagnose_api(result, settings)


def _diagnose_api(result: Reachability, settings: Settings) -> Iterator[Diagnostic]:
    is_custom = settings.sources["api_url"] != "default"
    host = _without_password(settings.api_url)
    yield diagnostics.check_reachability(result.failure, result.status, result.kind, host, is_custom_url=is_custom)
    if not result.failure:
        yield diagnostics.check_clock(result.requested_at, result.server_time)


def _probe(settings: Settings, key: Secret, url: str, clock: Clock, report: DoctorReport) -> None:
    """Send the probes and store their answers. The warehouse is locked first, so a locked one costs no request."""
    try:
        with ExitStack() as stack:
            if not warehouse.exists(url, wait=LOCK_TIMEOUT, clock=clock):
                _send_probes(settings, key, clock, ProbeBaseline(), report)
                message = "answers were not stored: there is no warehouse yet"
                report.diagnostics.append(Diagnostic("probe", Level.NOTE, message))
                return
            stack.enter_context(account_lock(url, settings.account, clock, wait=LOCK_TIMEOUT))
            engine = warehouse.open_warehouse(url, wait=LOCK_TIMEOUT, clock=clock)
            migrate.upgrade(engine)
            with engine.connect() as connection:
                account = open_account(connection, settings.account, key, clock.now(), settings.key_changed)
                baseline = probe_store.load_baseline(connection, account.account_id)
            responses = _send_probes(settings, key, clock, baseline, report)
            behaviours = probes.unknown_name_behaviours(responses)
            with engine.begin() as connection:
                changed = probe_store.save(connection, account.account_id, report.probes, behaviours, clock.now())
            report.diagnostics += [diagnostics.behaviour_changed(*change) for change in changed]
    except AppError as error:
        report.diagnostics += [diagnostics.from_error("probe", error)]


def _send_probes(
    settings: Settings, key: Secret, clock: Clock, baseline: ProbeBaseline, report: DoctorReport
) -> ProbeResponses:
    """Send one request after the other. The first response also tells about reachability and the clock."""
    responses: dict[ProbeRequest, ProbeResponse] = {}
    rate = min(settings.rate or MAX_PROBES_PER_SECOND, MAX_PROBES_PER_SECOND)
    limiter = RateLimiter(rate, clock)
    jitter = random.Random().random  # noqa: S311  # for retries, and probes are not retried
    with Client(settings.api_url, key, limiter, clock, jitter, concurrency=1, timeouts=TIMEOUTS) as client:
        while probe := probes.next_probe(responses, baseline, clock.now(), settings.account):
            request, window = probe
            log.info("probing %s", request)
            responses[request] = client.fetch_once(window)
        report.requests += client.requests
    answer, headers = responses[ProbeRequest.DAY]
    failure = answer.reply if isinstance(answer.reply, TransportError) else None
    content_type = headers.get("content-type", "")
    result = Reachability(answer.requested_at, failure, answer.status, answer.server_time, content_type)
    report.diagnostics += _diagnose_api(result, settings)
    fatal, stopped_by = probes.fatal_error(responses), probes.failure(responses)
    report.diagnostics.append(diagnostics.check_probe(client.requests, fatal, stopped_by))
    report.probes = answers(responses, baseline, clock.now())
    return responses
