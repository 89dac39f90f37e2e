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
from etl import settings as said
from etl.care import advice, kept, questions
from etl.care.advice import Advice, Package, Site, State, Told
from etl.care.questions import Heard, Known, Probe, Topic
from etl.clock import Clock
from etl.errors import ProblemError, UsageError, WarehouseError, worst
from etl.extract.client import Client, Reach, Timeouts, Visit, reach
from etl.extract.pace import Pace
from etl.load.ledger import find_account, open_account
from etl.load.lock import lock_file, one_sync
from etl.records import Secret, Unreachable
from etl.settings import SETTINGS, Place, Settings
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
class Examination:
    """What was found so far, in the order it was looked at. ``probes`` are the service's habits: just asked, or as kept."""

    now: datetime
    advice: list[Advice] = field(default_factory=list)
    settings: tuple[Told, ...] = ()
    probes: list[Probe] = field(default_factory=list)
    requests: int = 0
    quiet: bool = False

    @property
    def exit_code(self) -> int:
        return worst([one.exit_code for one in self.advice])

    @property
    def wants_a_person(self) -> bool:
        return any(one.state in (State.WARNING, State.PROBLEM) for one in self.advice)


def examine(given: Mapping[str, object], place: Place, clock: Clock, *, probe: bool) -> Examination:
    """Looks at everything. ``given`` is what the command line said. Raises KeyboardInterrupt alone: trouble is advice."""
    found = Examination(clock.now())
    found.advice += [Advice("program", State.OK, f"{PACKAGE} {__version__}, Python {platform.python_version()}")]
    found.advice += advice.of_packages(list(_packages()))
    try:
        settings = said.load(given, clock.now(), place)
    except UsageError as error:
        found.advice += [advice.of_error("settings", error)]
        unknown = "key, warehouse and API were not looked at: which ones, the settings say"
        found.advice += [Advice("the rest", State.NOTE, unknown, "mend the settings, and look again")]
        return found
    found.quiet = settings.quiet
    found.settings = tuple(_told(settings))
    found.advice += advice.of_settings(found.settings, settings.ignored)
    key = _look_at_key(given, place, clock, settings, found)
    url = _look_at_warehouse(settings, key, clock, found)
    if probe and key and url and not any(one.exit_code for one in found.advice):
        _ask(settings, key, url, clock, found)
        return found
    _look_at_api(settings, clock, found)
    if probe:
        found.advice.append(Advice("probe", State.NOTE, "nothing was asked", "mend the problems above first"))
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


def _told(settings: Settings) -> Iterator[Told]:
    """Every setting; of URLs, which may hold passwords, the place alone."""
    ping = "set" if settings.ping_url else ""
    places = {"warehouse": _path(settings) or "refused", "api_url": _host(settings.api_url), "ping_url": ping}
    for name in SETTINGS:
        value = getattr(settings, name)
        text = places.get(name) or (", ".join(value) if isinstance(value, tuple) else "" if value is None else str(value))
        yield Told(name, "all" if name == "since" and settings.since_all else text, settings.sources[name])


def _path(settings: Settings) -> str:
    try:
        return warehouse.name_of(warehouse.warehouse_url(settings.warehouse))
    except UsageError:
        return ""


def _host(api_url: str) -> str:
    parts = urlsplit(api_url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _look_at_key(given: Mapping[str, object], place: Place, clock: Clock, settings: Settings, found: Examination) -> Secret | None:
    """Whether the key is there. The path of its file is not said: what a doctor finds is shown around."""
    file = said.key_file(settings.account, given, place)
    try:
        loaded = said.load(given, clock.now(), place, needs_key=True)
    except UsageError as error:
        message = error.message.replace(f"{file}", "the key's file") if file else error.message
        found.advice += [advice.of_error("key", UsageError(message, error.remedy))]
        return None
    found.advice += advice.of_key(loaded.sources["key"], loaded.exposed)
    return loaded.key


# ---------------------------------------------------------------- the warehouse


def _look_at_warehouse(settings: Settings, key: Secret | None, clock: Clock, found: Examination) -> str | None:
    """The warehouse's URL, where it has one."""
    try:
        url = warehouse.warehouse_url(settings.warehouse)
        path = warehouse.warehouse_path(url)
        found.advice += advice.of_site(_site(path)) if path else _of_server(url, clock)
        if warehouse.exists(url, wait=LOCK_WAIT, clock=clock):
            engine = warehouse.open_warehouse(url, read_only=True, wait=LOCK_WAIT, clock=clock)
            found.advice += [_schema(engine)]
            if migrate.current(engine) == migrate.revisions()[-1]:
                found.advice += _of_account(engine, settings, key, clock)
                found.probes = _kept_probes(engine, settings.account)
        found.advice += _of_lock(url, settings.account, clock)
    except ProblemError as error:
        found.advice += [advice.of_error("warehouse", error)]
        return None
    except OSError as error:
        found.advice += [advice.of_error("warehouse", WarehouseError(f"it cannot be looked at: {error}", "mend its permissions"))]
        return None
    return url


def _site(path: Path) -> Site:
    has_folder = path.parent.is_dir()
    there = path if path.exists() else path.parent
    status = path.stat() if path.exists() else None
    return Site(
        path=str(path),
        folder=str(path.parent),
        has_folder=has_folder,
        can_write=os.access(there, os.W_OK) and os.access(path.parent, os.W_OK),
        size=status and status.st_size,
        mode=status.st_mode & 0o777 if status and os.name == "posix" else 0,
        free=shutil.disk_usage(path.parent).free if has_folder else 0,
    )


def _schema(engine: Engine) -> Advice:
    return advice.of_schema(migrate.state(engine), migrate.current(engine), migrate.revisions()[-1])


def _of_account(engine: Engine, settings: Settings, key: Secret | None, clock: Clock) -> Iterator[Advice]:
    """Whether a sync would take this key and these days for the account."""
    account = find_account(engine, settings.account)
    if key:
        try:
            _try_key(engine, settings, key, clock)
            if account:
                yield Advice("account", State.OK, f"a sync takes this key for account {account.name}")
        except UsageError as error:
            yield advice.of_error("account", error)
    is_new_since = settings.since or settings.since_all
    if account and account.since and not is_new_since and settings.until and settings.until < account.since:
        yield advice.of_span(settings.until, account.since)


def _try_key(engine: Engine, settings: Settings, key: Secret, clock: Clock) -> None:
    """Opens the account as a sync does, on a connection that writes nothing. Raises UsageError where a sync would."""
    with engine.connect() as connection:
        try:
            open_account(connection, settings.account, key, clock.now(), settings.key_changed)
        except DBAPIError as error:  # the account is new, or its key may change: it is right, and would be written now
            if "read-only" not in str(error.orig):
                raise


def _of_lock(url: str, account: str, clock: Clock) -> Iterator[Advice]:
    """Whether a sync could have the account's lock. A file that is not there is not made: that a sync can, the site says."""
    path = warehouse.warehouse_path(url)
    if path and not os.path.lexists(lock_file(path, account)):
        return
    try:
        with one_sync(url, account, clock, wait=0):
            pass
    except WarehouseError as error:
        yield advice.of_error("lock", error)


def _of_server(url: str, clock: Clock) -> Iterator[Advice]:
    with warehouse.open_warehouse(url, read_only=True, wait=LOCK_WAIT, clock=clock).connect() as connection:
        server = postgres.describe(connection)
    yield from advice.of_server(warehouse.name_of(url), server.version, may_write=server.may_write)


def _kept_probes(engine: Engine, account: str) -> list[Probe]:
    with engine.connect() as connection:
        number = kept.account_id(connection, account)
        return [] if number is None else kept.probes(connection, number)


# ---------------------------------------------------------------- the API


def _look_at_api(settings: Settings, clock: Clock, found: Examination) -> None:
    """One request without a key."""
    try:
        came = reach(settings.api_url, clock, TIMEOUTS)
    except UsageError as error:
        found.advice += [advice.of_error("api", error)]
        return
    found.requests += 1
    found.advice += _of_api(came, settings)


def _of_api(came: Reach, settings: Settings) -> Iterator[Advice]:
    is_named = settings.sources["api_url"] != "default"
    yield advice.of_reach(came.trouble, came.status, came.kind, _host(settings.api_url), is_named=is_named)
    if not came.trouble:
        yield advice.of_clock(came.asked_at, came.server_time)


class _Chart(NamedTuple):
    """Whose chart a visit's answers go into."""

    engine: Engine
    account: int
    known: Known


def _ask(settings: Settings, key: Secret, url: str, clock: Clock, found: Examination) -> None:
    """The visit of ``--probe``. As in a sync, a warehouse that cannot be had costs no request."""
    try:
        with ExitStack() as stack:
            chart = None
            if warehouse.exists(url, wait=LOCK_WAIT, clock=clock):
                stack.enter_context(one_sync(url, settings.account, clock, wait=LOCK_WAIT))
                chart = _chart(settings, key, url, clock)
            heard = _visit(settings, key, clock, chart.known if chart else Known(), found)
            if chart:
                _keep(chart, heard, clock, found)
            else:
                found.advice.append(Advice("probe", State.NOTE, "the answers are not kept: there is no warehouse to keep them in"))
    except ProblemError as error:
        found.advice += [advice.of_error("probe", error)]


def _chart(settings: Settings, key: Secret, url: str, clock: Clock) -> _Chart:
    engine = warehouse.open_warehouse(url, wait=LOCK_WAIT, clock=clock)
    migrate.upgrade(engine)
    with engine.connect() as connection:
        account = open_account(connection, settings.account, key, clock.now(), settings.key_changed)
        return _Chart(engine, account.account_id, kept.known(connection, account.account_id))


def _visit(settings: Settings, key: Secret, clock: Clock, known: Known, found: Examination) -> Heard:
    """Asks one question after the other; the first reply also tells of reach and clock."""
    heard: dict[Topic, Visit] = {}
    rate = min(settings.rate or MOST_PER_SECOND, MOST_PER_SECOND)
    jitter = random.Random().random  # noqa: S311  # of retries, which a visit does not make
    with Client(settings.api_url, key, Pace(rate, clock), clock, jitter, concurrency=1, timeout=TIMEOUTS) as client:
        while question := questions.next_question(heard, known, clock.now(), settings.account):
            topic, window = question
            log.info("asking for %s", topic)
            heard[topic] = client.visit(window)
        found.requests += client.requests
    first = heard[Topic.DAY].answer
    trouble = first.reply if isinstance(first.reply, Unreachable) else None
    kind = heard[Topic.DAY].headers.get("content-type", "")
    found.advice += _of_api(Reach(first.asked_at, trouble, first.status, first.server_time, kind), settings)
    found.advice.append(advice.of_visit(client.requests, questions.fatal(heard), questions.trouble(heard)))
    found.probes = questions.answers(heard, known, clock.now())
    return heard


def _keep(chart: _Chart, heard: Heard, clock: Clock, found: Examination) -> None:
    with chart.engine.begin() as connection:
        changed = kept.keep(connection, chart.account, found.probes, questions.lessons(heard), clock.now())
    found.advice += [advice.of_lesson(*change) for change in changed]
