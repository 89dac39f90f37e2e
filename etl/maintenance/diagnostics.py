"""What doctor reports about each thing it checks, with a hint where something is wrong. Pure functions."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import NamedTuple

from packaging.requirements import Requirement

from etl.errors import AccountRejectedError, AppError, SchemaTooNewError, WarehouseError
from etl.extract import protocol
from etl.extract.client import Reachability
from etl.maintenance.effective_settings import EffectiveSetting
from etl.maintenance.probes import BehaviourChange
from etl.models import MAX_CLOCK_SKEW, ErrorScope, UnknownNameAnswer, UnknownNameBehaviour
from etl.responses import ApiError, InvalidResponse, TransportError
from etl.warehouse.migrate import State

MEGABYTE = 10**6
MIN_FREE_SPACE = 50 * MEGABYTE
"""With less free space a commit may fail."""
LOW_FREE_SPACE = 500 * MEGABYTE

FAILED_WINDOWS = 1
"""Exit code of a sync with failed windows."""


class Level(StrEnum):
    OK = "ok"
    INFO = "note"
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


def check_packages(
    requirements: Iterable[Requirement], installed_version: Callable[[str], str | None]
) -> Iterator[Diagnostic]:
    """Compare the required packages with the installed ones."""
    fitting, warnings = [], []
    for required in requirements:
        version = installed_version(required.name)
        if version and required.specifier.contains(version, prereleases=True):
            fitting.append(f"{required.name} {version}")
        else:
            text = f"{required.name}{required.specifier}"
            message = f"{required.name} {version or 'is missing'}; {text} is required"
            warnings.append(Diagnostic("packages", Level.WARNING, message, f"pip install '{text}'"))
    if fitting:
        yield Diagnostic("packages", Level.OK, ", ".join(fitting))
    else:
        yield Diagnostic("packages", Level.INFO, "not installed as a package, so required versions are unknown")
    yield from warnings


def check_settings(settings: Sequence[EffectiveSetting], ignored: Iterable[str]) -> Iterator[Diagnostic]:
    changed = [f"{one.name}: {one.value}, from {one.source}" for one in settings if one.source != "default"]
    others = f"{len(settings) - len(changed)} other settings use defaults" if changed else "all settings use defaults"
    yield Diagnostic("settings", Level.OK, "\n".join([*changed, others]))
    for warning in ignored:
        yield Diagnostic("settings", Level.WARNING, warning, "unset it, or correct its name")


class WarehouseFile(NamedTuple):
    """The warehouse file, or where it would be. ``size``: None if it does not exist. ``free``: bytes free on disk."""

    path: Path
    is_writable: bool
    size: int | None
    mode: int
    free: int


def check_file(file: WarehouseFile) -> Iterator[Diagnostic]:
    path, folder = file.path, file.path.parent
    if file.size is None:
        message = f"there is no warehouse at {path} yet"
        yield Diagnostic("file", Level.INFO, message, "create it with anticaptcha-etl sync")
    else:
        yield Diagnostic("file", Level.OK, f"{path}, {_format_bytes(file.size)}")
    if not file.is_writable:
        what = f"the folder {folder}" if file.size is None else f"{path} or its folder"
        hint = "run as its owner or change the permissions; sync also writes a log and a lock file beside it"
        yield from_error("file", WarehouseError(f"{what} is not writable by this user", hint))
    if file.size is not None and file.mode & 0o077:
        message = f"other users of this machine have access to it (mode {file.mode:03o})"
        yield Diagnostic("file", Level.INFO, message, f"chmod 600 '{path}', unless this is intended")
    message, hint = f"{_format_bytes(file.free)} free", "free up disk space"
    if file.free < MIN_FREE_SPACE:
        yield from_error("space", WarehouseError(f"{message}: the disk is almost full", hint))
    elif file.free < max(LOW_FREE_SPACE, file.size or 0):
        yield Diagnostic("space", Level.WARNING, f"{message}: the disk is getting full", hint)
    else:
        yield Diagnostic("space", Level.OK, message)


def _format_bytes(count: int) -> str:
    return f"{count / 10**9:,.1f} GB" if count >= 10**9 else f"{count / MEGABYTE:,.1f} MB"


def check_schema(state: State, revision: str | None, newest: str) -> Diagnostic:
    if state == "newer":
        message = f"schema {revision} is newer than this program's {newest}"
        return from_error("schema", SchemaTooNewError(message, "upgrade anticaptcha-etl"))
    if state == "none":
        return Diagnostic("schema", Level.INFO, "no tables yet", "create them with anticaptcha-etl sync")
    if state == "old":
        message = f"schema {revision}, this program uses {newest}"
        if revision == newest:
            message = f"schema {newest}, but its views are from another version"
        return Diagnostic("schema", Level.INFO, message, "anticaptcha-etl migrate (sync also upgrades it)")
    return Diagnostic("schema", Level.OK, f"{newest}, up to date")


def check_api(result: Reachability, host: str, *, is_custom_url: bool) -> Iterator[Diagnostic]:
    """Report whether the API answered, and the clocks' difference.

    The vendor's own host needs no further proof: its certificate was verified.
    """
    if result.failure:
        message = f"{host}: {result.failure.code}, {result.failure.reason}"
        hint = "check the network, the proxy (HTTPS_PROXY) and ANTICAPTCHA_API_URL"
        yield Diagnostic("api", Level.PROBLEM, message, hint, FAILED_WINDOWS)
        return
    is_page, status = "html" in result.kind.lower(), result.status or 0
    if status >= 500:
        yield Diagnostic("api", Level.WARNING, f"{host} answers with HTTP {status}", "try again later")
    elif is_custom_url and (is_page or status >= 300):
        message = f"{host} answers (HTTP {status}{', a web page' if is_page else ''}), but may not be the API"
        hint = "check ANTICAPTCHA_API_URL, or send it real requests: anticaptcha-etl doctor --probe"
        yield Diagnostic("api", Level.WARNING, message, hint)
    else:
        yield Diagnostic("api", Level.OK, f"{host} answers (HTTP {result.status})")
    yield _check_clock(result)


def _check_clock(result: Reachability) -> Diagnostic:
    if result.server_time is None:
        return Diagnostic("clock", Level.INFO, "the server sent no time to compare with")
    difference = abs(result.server_time - result.requested_at)
    message = f"{round(difference.total_seconds()):,} s from the server's"
    if difference > MAX_CLOCK_SKEW:
        message = f"{message}; no day becomes final until they agree"
        return Diagnostic("clock", Level.WARNING, message, "synchronize this machine's clock: timedatectl set-ntp true")
    return Diagnostic("clock", Level.OK, message)


def check_probe(requests: int, stopped_by: ApiError | InvalidResponse | TransportError | None) -> Diagnostic:
    """Report how probing went."""
    sent = f"{requests} request{'' if requests == 1 else 's'}"
    if stopped_by is None:
        return Diagnostic("probe", Level.OK, f"{sent} sent")
    if isinstance(stopped_by, ApiError) and stopped_by.scope is ErrorScope.ACCOUNT:
        message = f"the API rejected the account after {sent}: {stopped_by.code} {stopped_by.description}"
        hint = protocol.ACCOUNT_ERRORS.get(stopped_by.code, "fix the account first")
        return from_error("probe", AccountRejectedError(message, hint))
    message = f"stopped after {sent}: several in a row had no records, the last {stopped_by.code}"
    return Diagnostic("probe", Level.PROBLEM, message, "later: anticaptcha-etl doctor --probe", FAILED_WINDOWS)


def behaviour_changed(change: BehaviourChange) -> Diagnostic:
    """Report that the API treats unknown names differently."""
    before, now = _format_behaviour(change.before), _format_behaviour(change.now)
    message = f"an unknown {change.dimension} used to give {before}, now {now}"
    if change.reset:
        message = f"{message}; requested again from now on: {', '.join(change.reset)}"
    if change.now.answer is UnknownNameAnswer.TOTALS:
        return Diagnostic("names", Level.WARNING, message, "check the spelling of every listed name")
    return Diagnostic("names", Level.INFO, message)


def _format_behaviour(behaviour: UnknownNameBehaviour) -> str:
    if behaviour.code:
        return f"{behaviour.answer} {behaviour.code}"
    return "the total" if behaviour.answer is UnknownNameAnswer.TOTALS else str(behaviour.answer)
