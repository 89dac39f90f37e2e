"""What doctor reports about each thing it looked at, with a hint where something is wrong. Pure functions."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from etl.config import FilePermissionWarning
from etl.errors import AccountRejectedError, AppError, SchemaTooNewError, UsageError, WarehouseError
from etl.extract import protocol
from etl.models import MAX_CLOCK_SKEW, Dimension, UnknownNameAnswer, UnknownNameBehaviour
from etl.responses import ApiError, TransportError

MEGABYTE = 10**6
MIN_FREE_SPACE = 50 * MEGABYTE
"""With less free space a commit may fail."""
LOW_FREE_SPACE = 500 * MEGABYTE

FAILED_WINDOWS = 1
"""Exit code of a sync with failed windows."""


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    """Worth knowing; nothing to do now."""
    WARNING = "warning"
    """Should be fixed, but a sync works."""
    PROBLEM = "problem"
    """A sync would fail."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """The result of one check. ``exit_code`` is the one a sync would end with; 0 unless the level is PROBLEM."""

    name: str
    level: Level
    message: str
    hint: str = ""
    exit_code: int = 0


def from_error(name: str, error: AppError) -> Diagnostic:
    return Diagnostic(name, Level.PROBLEM, error.message, error.hint, error.exit_code)


class Package(NamedTuple):
    """A dependency with its required and its installed version (None: not installed)."""

    name: str
    bounds: str
    version: str | None
    fits: bool


def check_packages(packages: Sequence[Package]) -> Iterator[Diagnostic]:
    fitting = [f"{package.name} {package.version}" for package in packages if package.fits]
    if fitting:
        yield Diagnostic("packages", Level.OK, ", ".join(fitting))
    else:
        yield Diagnostic("packages", Level.NOTE, "not installed as a package, so required versions are unknown")
    for package in packages:
        if not package.fits:
            message = f"{package.name} {package.version or 'is missing'}; {package.name}{package.bounds} is required"
            yield Diagnostic("packages", Level.WARNING, message, f"pip install '{package.name}{package.bounds}'")


class EffectiveSetting(NamedTuple):
    """A setting's value and where it comes from."""

    name: str
    value: str
    source: str


def check_settings(settings: Sequence[EffectiveSetting], ignored: Iterable[str]) -> Iterator[Diagnostic]:
    changed = [f"{one.name}: {one.value}, from {one.source}" for one in settings if one.source != "default"]
    others = f"{len(settings) - len(changed)} other settings use defaults" if changed else "all settings use defaults"
    yield Diagnostic("settings", Level.OK, "\n".join([*changed, others]))
    for warning in ignored:
        yield Diagnostic("settings", Level.WARNING, warning, "unset it, or correct its name")


def until_before_since(until: date, since: date) -> Diagnostic:
    message = f"--until {until} is before the saved --since {since}"
    return from_error("settings", UsageError(message, "give another --since as well, or --since all"))


def check_key(source: str, exposed: FilePermissionWarning | None) -> Iterator[Diagnostic]:
    yield Diagnostic("key", Level.OK, f"found, from {source}")
    if exposed:
        yield Diagnostic("key", Level.WARNING, exposed.what, exposed.hint)


@dataclass(frozen=True, slots=True)
class WarehouseFile:
    """The warehouse file, or where it would be. ``size``: None if it does not exist. ``free``: bytes free on disk."""

    path: str
    folder: str
    has_folder: bool
    can_write: bool
    size: int | None
    mode: int
    free: int


def check_file(file: WarehouseFile) -> Iterator[Diagnostic]:
    if not file.has_folder:
        error = WarehouseError(f"the folder {file.folder} does not exist", f"mkdir -p '{file.folder}'")
        yield from_error("file", error)
        return
    if file.size is None:
        message = f"there is no warehouse at {file.path} yet"
        yield Diagnostic("file", Level.NOTE, message, "create it with anticaptcha-etl sync")
    else:
        yield Diagnostic("file", Level.OK, f"{file.path}, {_format_bytes(file.size)}")
    if not file.can_write:
        what = f"the folder {file.folder}" if file.size is None else f"{file.path} or its folder"
        hint = "run as its owner or change the permissions; sync also writes a log and a lock file beside it"
        yield from_error("file", WarehouseError(f"{what} is not writable by this user", hint))
    if file.size is not None and file.mode & 0o077:
        message = f"other users of this machine have access to it (mode {file.mode:03o})"
        yield Diagnostic("file", Level.NOTE, message, f"chmod 600 '{file.path}', unless this is intended")
    yield _check_space(file.free, file.size or 0)


def published_copy(path: str, created_at: datetime) -> Diagnostic:
    message = f"{path} is a published read-only copy, made {created_at:%Y-%m-%d %H:%M} UTC; sync cannot load into it"
    return from_error("schema", WarehouseError(message, "use --warehouse with the warehouse it was published from"))


def check_server(name: str, version: str, *, may_write: bool) -> Iterator[Diagnostic]:
    yield Diagnostic("server", Level.OK, f"{name}, PostgreSQL {version}")
    if not may_write:
        message = f"this user may not create or write the warehouse's tables on {name}"
        hint = "grant the user CREATE on the schema, or make it the owner of the tables"
        yield from_error("server", WarehouseError(message, hint))


def _check_space(free: int, size: int) -> Diagnostic:
    message = f"{_format_bytes(free)} free"
    if free < MIN_FREE_SPACE:
        return from_error("space", WarehouseError(f"{message}: the disk is almost full", "free up disk space"))
    if free < max(LOW_FREE_SPACE, size):
        return Diagnostic("space", Level.WARNING, f"{message}: the disk is getting full", "free up disk space")
    return Diagnostic("space", Level.OK, message)


def _format_bytes(count: int) -> str:
    return f"{count / 10**9:,.1f} GB" if count >= 10**9 else f"{count / MEGABYTE:,.1f} MB"


def check_schema(state: Literal["none", "old", "current", "newer"], revision: str | None, newest: str) -> Diagnostic:
    if state == "newer":
        message = f"schema {revision} is newer than this program's {newest}"
        return from_error("schema", SchemaTooNewError(message, "upgrade anticaptcha-etl"))
    if state == "none":
        return Diagnostic("schema", Level.NOTE, "no tables yet", "create them with anticaptcha-etl sync")
    if state == "old":
        message = f"schema {revision}, this program uses {newest}"
        if revision == newest:
            message = f"schema {newest}, but its views are from another version"
        return Diagnostic("schema", Level.NOTE, message, "anticaptcha-etl migrate (sync also upgrades it)")
    return Diagnostic("schema", Level.OK, f"{newest}, up to date")


def check_reachability(
    failure: TransportError | None, status: int | None, content_type: str, host: str, *, is_custom_url: bool
) -> Diagnostic:
    """Report whether the API answered. The vendor's own host needs no further proof: its certificate was verified."""
    if failure:
        hint = "check the network, the proxy (HTTPS_PROXY) and ANTICAPTCHA_API_URL"
        return Diagnostic("api", Level.PROBLEM, f"{host}: {failure.code}, {failure.reason}", hint, FAILED_WINDOWS)
    if status is not None and status >= 500:
        return Diagnostic("api", Level.WARNING, f"{host} answers with HTTP {status}", "try again later")
    is_page = "html" in content_type.lower()
    if is_custom_url and (is_page or (status is not None and status >= 300)):
        message = f"{host} answers (HTTP {status}{', a web page' if is_page else ''}), but may not be the API"
        hint = "check ANTICAPTCHA_API_URL, or send it real requests: anticaptcha-etl doctor --probe"
        return Diagnostic("api", Level.WARNING, message, hint)
    return Diagnostic("api", Level.OK, f"{host} answers (HTTP {status})")


def check_clock(requested_at: datetime, server_time: datetime | None) -> Diagnostic:
    if server_time is None:
        return Diagnostic("clock", Level.NOTE, "the server sent no time to compare with")
    difference = abs(server_time - requested_at)
    message = f"{round(difference.total_seconds()):,} s from the server's"
    if difference > MAX_CLOCK_SKEW:
        message = f"{message}; no day becomes final until they agree"
        return Diagnostic("clock", Level.WARNING, message, "synchronize this machine's clock: timedatectl set-ntp true")
    return Diagnostic("clock", Level.OK, message)


def check_probe(requests: int, fatal: ApiError | None, failure: str) -> Diagnostic:
    """Report how probing went. ``failure``: the code of the last reply if it was stopped early."""
    sent = f"{requests} request{'' if requests == 1 else 's'}"
    if fatal:
        message = f"the API rejected the account after {sent}: {fatal.code} {fatal.description}"
        hint = protocol.ACCOUNT_ERROR_HINTS.get(fatal.code, "fix the account first")
        return from_error("probe", AccountRejectedError(message, hint))
    if failure:
        message = f"stopped after {sent}: several in a row had no records, the last {failure}"
        return Diagnostic("probe", Level.PROBLEM, message, "later: anticaptcha-etl doctor --probe", FAILED_WINDOWS)
    return Diagnostic("probe", Level.OK, f"{sent} sent")


def behaviour_changed(
    dimension: Dimension, before: UnknownNameBehaviour, now: UnknownNameBehaviour, reset: Sequence[str]
) -> Diagnostic:
    """Report that the API treats unknown names differently. ``reset``: names that sync requests again because of it."""
    message = f"an unknown {dimension} used to give {_format_behaviour(before)}, now {_format_behaviour(now)}"
    if reset:
        message = f"{message}; requested again from now on: {', '.join(reset)}"
    if now.answer is UnknownNameAnswer.TOTALS:
        return Diagnostic("names", Level.WARNING, message, "check the spelling of every listed name")
    return Diagnostic("names", Level.NOTE, message)


def _format_behaviour(behaviour: UnknownNameBehaviour) -> str:
    if behaviour.code:
        return f"{behaviour.answer} {behaviour.code}"
    return "the total" if behaviour.answer is UnknownNameAnswer.TOTALS else str(behaviour.answer)
