"""Check everything a sync depends on, in order; a failed check does not stop the others.

Sends at most one request, without the key. With ``probe``, sends the requests of ``probes`` instead, with the key.
"""

import logging
import os
import platform
import random
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from etl import __version__, config
from etl.clock import Clock
from etl.config import Environment, Settings
from etl.errors import AppError, UsageError, WarehouseError, most_severe
from etl.extract.client import Client, Reachability, check_reachable
from etl.extract.rate_limit import RateLimiter
from etl.extract.transport import Timeouts
from etl.load.accounts import find_account, open_account
from etl.load.lock import account_lock
from etl.maintenance import diagnostics, probe_store, probes
from etl.maintenance.diagnostics import Diagnostic, Level, WarehouseFile, from_error
from etl.maintenance.effective_settings import EffectiveSetting, effective_settings, without_password
from etl.maintenance.probe_answers import answers
from etl.maintenance.probes import Observation, ProbeBaseline, ProbeRequest, ProbeResult
from etl.responses import TransportError
from etl.secret import Secret
from etl.warehouse import engine as warehouse
from etl.warehouse import migrate, postgres
from etl.warehouse.account_files import lock_file

log = logging.getLogger(__name__)

PACKAGE = "anticaptcha-etl"
MAX_LOCK_WAIT = 5.0
"""Seconds to wait for the warehouse; longer than a commit of a running sync."""
MAX_PROBES_PER_SECOND = 1.0
"""However fast ``--rate`` allows."""
TIMEOUTS = Timeouts(connect=10.0, read=20.0, write=10.0, total=30.0)


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

    @contextmanager
    def errors_as(self, name: str) -> Iterator[None]:
        """Turn an error into a diagnostic with this name."""
        try:
            yield
        except AppError as error:
            self.diagnostics.append(from_error(name, error))
        except OSError as error:  # only the warehouse's file can raise one
            unreadable = WarehouseError(f"cannot be read: {error}", "check its permissions with ls -l")
            self.diagnostics.append(from_error(name, unreadable))


def run_diagnostics(
    given: Mapping[str, object], environment: Environment, clock: Clock, *, probe: bool
) -> DoctorReport:
    """Run all checks; errors become diagnostics. ``given``: options of the command line."""
    report = DoctorReport(clock.now())
    program = f"{PACKAGE} {__version__}, Python {platform.python_version()}"
    report.diagnostics.append(Diagnostic("program", Level.OK, program))
    report.diagnostics += diagnostics.check_packages(_requirements(), _installed_version)
    try:
        settings = config.load(given, report.now, environment)
    except UsageError as error:
        skipped = Diagnostic(
            "the rest", Level.INFO, "key, warehouse and API were not checked", "fix the settings first"
        )
        report.diagnostics += [from_error("settings", error), skipped]
        return report
    report.quiet = settings.quiet
    report.settings = tuple(effective_settings(settings))
    report.diagnostics += diagnostics.check_settings(report.settings, settings.ignored)
    key = _check_key(given, environment, settings, report)
    with report.errors_as("warehouse"):
        _check_warehouse(settings, key, clock, report)
    if probe and key and not report.exit_code:
        with report.errors_as("probe"):
            _probe(settings, key, clock, report)
        return report
    with report.errors_as("api"):
        result = check_reachable(settings.api_url, clock, TIMEOUTS)
        report.requests += 1
        report.diagnostics += _diagnose_api(result, settings)
    if probe:
        report.diagnostics.append(Diagnostic("probe", Level.INFO, "no requests sent", "fix the problems above first"))
    return report


def _requirements() -> list[Requirement]:
    """Return the packages this one requires; none if it is not installed as a package."""
    try:
        required = [Requirement(line) for line in metadata.requires(PACKAGE) or ()]
    except metadata.PackageNotFoundError:
        return []
    return [one for one in required if one.marker is None or one.marker.evaluate({"extra": ""})]


def _installed_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _check_key(
    given: Mapping[str, object], environment: Environment, settings: Settings, report: DoctorReport
) -> Secret | None:
    """Return the key, if there is one. The path of its file is left out: people share this output."""
    file = config.key_file(settings.account, given, environment)
    try:
        loaded = config.load(given, report.now, environment, needs_key=True)
    except UsageError as error:
        message = error.message.replace(f"{file}", "the key file") if file else error.message
        report.diagnostics.append(from_error("key", UsageError(message, error.hint)))
        return None
    report.diagnostics.append(Diagnostic("key", Level.OK, f"found, from {loaded.sources['key']}"))
    if loaded.exposed:
        report.diagnostics.append(Diagnostic("key", Level.WARNING, loaded.exposed.what, loaded.exposed.hint))
    return loaded.key


def _check_warehouse(settings: Settings, key: Secret | None, clock: Clock, report: DoctorReport) -> None:
    url, wait = warehouse.warehouse_url(settings.warehouse), min(settings.lock_wait, MAX_LOCK_WAIT)
    path = warehouse.warehouse_path(url)
    if path and not path.parent.is_dir():
        missing = WarehouseError(f"the folder {path.parent} does not exist", f"mkdir -p '{path.parent}'")
        report.diagnostics.append(from_error("file", missing))
        return
    engine = None
    try:
        if warehouse.exists(url, wait=wait, clock=clock):
            engine = warehouse.open_warehouse(url, read_only=True, wait=wait, clock=clock)
        is_copy = path is not None and engine is not None and migrate.is_copy(engine)
    except WarehouseError:
        if path:  # permissions or free space may be the cause
            report.diagnostics += diagnostics.check_file(_file(path))
        raise
    if path and is_copy:
        report.diagnostics.append(_published_copy(path))
        return
    report.diagnostics += diagnostics.check_file(_file(path)) if path else _check_server(url, wait, clock)
    if engine:
        newest, revision = migrate.revisions()[-1], migrate.current(engine)
        report.diagnostics.append(diagnostics.check_schema(migrate.state(engine), revision, newest))
        if revision == newest:
            _check_account(engine, settings, key, clock, report)
    if not path or os.path.lexists(lock_file(path, settings.account)):  # looking must not create the lock file
        with report.errors_as("lock"), account_lock(url, settings.account, clock, wait=0):
            pass


def _published_copy(path: Path) -> Diagnostic:
    created_at = datetime.fromtimestamp(path.stat().st_mtime, UTC)
    message = f"{path} is a published read-only copy, made {created_at:%Y-%m-%d %H:%M} UTC; sync cannot load into it"
    return from_error("schema", WarehouseError(message, "use --warehouse with the warehouse it was published from"))


def _file(path: Path) -> WarehouseFile:
    status = path.stat() if path.exists() else None
    return WarehouseFile(
        path,
        is_writable=all(os.access(one, os.W_OK) for one in (path if status else path.parent, path.parent)),
        size=status and status.st_size,
        mode=status.st_mode & 0o777 if status and os.name == "posix" else 0,
        free=shutil.disk_usage(path.parent).free,
    )


def _check_server(url: str, wait: float, clock: Clock) -> Iterator[Diagnostic]:
    with warehouse.open_warehouse(url, read_only=True, wait=wait, clock=clock).connect() as connection:
        server = postgres.describe(connection)
    name = warehouse.name_of(url)
    yield Diagnostic("server", Level.OK, f"{name}, PostgreSQL {server.version}")
    if not server.may_write:
        message = f"this user may not create or write the warehouse's tables on {name}"
        hint = "grant the user CREATE on the database and the schema, or make it the owner of the tables"
        yield from_error("server", WarehouseError(message, hint))


def _check_account(engine: Engine, settings: Settings, key: Secret | None, clock: Clock, report: DoctorReport) -> None:
    """Report whether a sync would accept this key and these days for the account, and load its probe answers."""
    account = find_account(engine, settings.account)
    if key:
        with report.errors_as("account"):
            _try_key(engine, settings, key, clock)
            if account:
                message = f"the key matches account '{account.name}'"
                report.diagnostics.append(Diagnostic("account", Level.OK, message))
    if account:
        has_new_since = settings.since or settings.since_all
        if account.since and not has_new_since and settings.until and settings.until < account.since:
            message = f"--until {settings.until} is before the saved --since {account.since}"
            refused = UsageError(message, "give another --since as well, or --since all")
            report.diagnostics.append(from_error("settings", refused))
        with engine.connect() as connection:
            report.probes = probe_store.latest_results(connection, account)


def _try_key(engine: Engine, settings: Settings, key: Secret, clock: Clock) -> None:
    """Open the account as a sync does, on a read-only connection. Raises UsageError where a sync would."""
    with engine.connect() as connection:
        try:
            open_account(connection, settings.account, key, clock.now(), settings.key_changed)
        except DBAPIError as error:  # the key was accepted, and its hash would now be written
            if "read-only" not in str(error.orig):
                raise


def _diagnose_api(result: Reachability, settings: Settings) -> Iterator[Diagnostic]:
    is_custom = settings.sources["api_url"] != "default"
    return diagnostics.check_api(result, without_password(settings.api_url), is_custom_url=is_custom)


def _probe(settings: Settings, key: Secret, clock: Clock, report: DoctorReport) -> None:
    """Send the probes and store their answers. The warehouse is locked first, so a locked one costs no request."""
    url, wait = warehouse.warehouse_url(settings.warehouse), min(settings.lock_wait, MAX_LOCK_WAIT)
    if not warehouse.exists(url, wait=wait, clock=clock):
        _send_probes(settings, key, clock, ProbeBaseline(), report)
        message = "answers were not stored: there is no warehouse yet"
        report.diagnostics.append(Diagnostic("probe", Level.INFO, message))
        return
    with account_lock(url, settings.account, clock, wait=wait):
        engine = warehouse.open_warehouse(url, wait=wait, clock=clock)
        migrate.upgrade(engine)
        with engine.connect() as connection:
            account = open_account(connection, settings.account, key, clock.now(), settings.key_changed)
            baseline = probe_store.load_baseline(connection, account)
        behaviours = probes.unknown_name_behaviours(_send_probes(settings, key, clock, baseline, report))
        with engine.begin() as connection:
            changes = probe_store.save(connection, account, report.probes, behaviours, clock.now())
        report.diagnostics += map(diagnostics.behaviour_changed, changes)


def _send_probes(
    settings: Settings, key: Secret, clock: Clock, baseline: ProbeBaseline, report: DoctorReport
) -> dict[ProbeRequest, Observation]:
    """Send one request after the other. The first response also tells about reachability and the clock."""
    observations: dict[ProbeRequest, Observation] = {}
    rate = min(settings.rate or MAX_PROBES_PER_SECOND, MAX_PROBES_PER_SECOND)
    limiter = RateLimiter(rate, clock)
    jitter = random.Random().random  # noqa: S311  # for retries, and probes are not retried
    with Client(settings.api_url, key, limiter, clock, jitter, TIMEOUTS) as client:
        while probe := probes.next_probe(observations, baseline, clock.now(), settings.account):
            request, window = probe
            log.info("probing %s", request)
            observations[request] = Observation(*client.fetch_once(window))
        report.requests += client.requests
    first, headers = observations[ProbeRequest.DAY].response, observations[ProbeRequest.DAY].headers
    failure = first.reply if isinstance(first.reply, TransportError) else None
    content_type = headers.get("content-type", "")
    reachability = Reachability(first.requested_at, failure, first.status, first.server_time, content_type)
    report.diagnostics += _diagnose_api(reachability, settings)
    report.diagnostics.append(diagnostics.check_probe(client.requests, probes.stopped_by(observations)))
    report.probes = answers(observations, baseline, clock.now())
    return observations
