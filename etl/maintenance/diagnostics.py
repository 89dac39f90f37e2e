"""What a doctor says of what was found: each thing looked at, how it is, and what to do about it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from etl.config import FilePermissionWarning
from etl.errors import AccountRejectedError, AppError, SchemaTooNewError, UsageError, WarehouseError
from etl.extract import protocol
from etl.models import MAX_CLOCK_SKEW, ApiRefusal, Dimension, TransportError, UnknownNameAnswer, UnknownNameBehaviour

MEGABYTE = 10**6
LEAST_SPACE = 50 * MEGABYTE
"""With less than this a commit may fail."""
LITTLE_SPACE = 500 * MEGABYTE

WINDOWS_FAILED = 1
"""Exit code of a sync whose windows fail."""


class Level(StrEnum):
    OK = "ok"
    NOTE = "note"
    """It is so; nothing is to be done now."""
    WARNING = "warning"
    """Something to mend; a sync works."""
    PROBLEM = "problem"
    """A sync would fail."""


@dataclass(frozen=True, slots=True)
class Diagnostic:
    """One thing looked at. ``exit_code`` is what the problem would give a sync; 0 where there is none."""

    name: str
    state: Level
    found: str
    hint: str = ""
    exit_code: int = 0


def of_error(name: str, error: AppError) -> Diagnostic:
    return Diagnostic(name, Level.PROBLEM, error.message, error.hint, error.exit_code)


# ---------------------------------------------------------------- what is installed


class Package(NamedTuple):
    """A dependency: the bounds this program gives it, and what is installed (None: nothing)."""

    name: str
    bounds: str
    version: str | None
    fits: bool


def of_packages(packages: Sequence[Package]) -> Iterator[Diagnostic]:
    """One line for all that fit, one for each that does not."""
    fitting = [f"{package.name} {package.version}" for package in packages if package.fits]
    if fitting:
        yield Diagnostic("packages", Level.OK, ", ".join(fitting))
    else:
        yield Diagnostic(
            "packages", Level.NOTE, "this program is not installed as a package, so its bounds are not known"
        )
    for package in packages:
        if not package.fits:
            found = f"{package.name} {package.version or 'is missing'}, this program was tried with {package.bounds}"
            yield Diagnostic("packages", Level.WARNING, found, f"pip install '{package.name}{package.bounds}'")


# ---------------------------------------------------------------- settings and the key


class EffectiveSetting(NamedTuple):
    """A setting's value and who said it."""

    name: str
    value: str
    source: str


def of_settings(told: Sequence[EffectiveSetting], ignored: Iterable[str]) -> Iterator[Diagnostic]:
    said = [one for one in told if one.source != "default"]
    unattributed = "all are defaults" if not said else f"the other {len(told) - len(said)} are defaults"
    yield Diagnostic(
        "settings",
        Level.OK,
        "\n".join([*(f"{one.name}: {one.value}, from {one.source}" for one in said), unattributed]),
    )
    yield from (Diagnostic("settings", Level.WARNING, sentence, "unset it, or mend its name") for sentence in ignored)


def of_span(until: date, since: date) -> Diagnostic:
    """``--until`` ends before what an earlier ``--since`` asked for begins."""
    found = f"--until {until} is before {since}, which an earlier --since asked for"
    return of_error("settings", UsageError(found, "say another --since too, or --since all"))


def of_key(source: str, exposed: FilePermissionWarning | None) -> Iterator[Diagnostic]:
    """The key is there. ``exposed`` says that everybody may read its file, where that is so."""
    yield Diagnostic("key", Level.OK, f"there, from {source}")
    if exposed:
        yield Diagnostic("key", Level.WARNING, exposed.what, exposed.hint)


# ---------------------------------------------------------------- the warehouse


@dataclass(frozen=True, slots=True)
class WarehouseFile:
    """Where the warehouse is, or would be. ``size`` is None when there is no file; ``free`` bytes are those of its disk."""

    path: str
    folder: str
    has_folder: bool
    can_write: bool
    size: int | None
    mode: int
    free: int


def of_site(site: WarehouseFile) -> Iterator[Diagnostic]:
    if not site.has_folder:
        yield of_error("file", WarehouseError(f"the folder {site.folder} does not exist", f"mkdir -p '{site.folder}'"))
        return
    if site.size is None:
        yield Diagnostic(
            "file", Level.NOTE, f"there is no warehouse at {site.path} yet", "anticaptcha-etl sync makes one"
        )
    else:
        yield Diagnostic("file", Level.OK, f"{site.path}, {_bytes(site.size)}")
    if not site.can_write:
        what = f"{site.path} and its folder" if site.size is not None else f"the folder {site.folder}"
        hint = "run as its owner, or mend the permissions; a sync writes the file and, beside it, its log and its lock"
        yield of_error("file", WarehouseError(f"{what} cannot be written by this user", hint))
    if site.size is not None and site.mode & 0o077:
        found = f"others on this machine can read it (mode {site.mode:03o})"
        yield Diagnostic("file", Level.NOTE, found, "chmod 600, unless that is meant")
    yield _of_space(site)


def of_server(name: str, version: str, *, may_write: bool) -> Iterator[Diagnostic]:
    """Where the warehouse is on a server. ``may_write``: whether this user may do there what a sync does."""
    yield Diagnostic("server", Level.OK, f"{name}, PostgreSQL {version}")
    if not may_write:
        what = f"this user may not write the warehouse's tables, or make them, on {name}"
        yield of_error(
            "server", WarehouseError(what, "grant it create on the schema, or be the tables' owner: a sync makes both")
        )


def _of_space(site: WarehouseFile) -> Diagnostic:
    found = f"{_bytes(site.free)} free"
    if site.free < LEAST_SPACE:
        return of_error(
            "space", WarehouseError(f"{found}: the disk is nearly full", "make room; what was committed is kept")
        )
    if site.free < max(LITTLE_SPACE, site.size or 0):
        return Diagnostic("space", Level.WARNING, f"{found}, which is little", "make room before the disk is full")
    return Diagnostic("space", Level.OK, found)


def _bytes(count: int) -> str:
    return f"{count / 10**9:,.1f} GB" if count >= 10**9 else f"{count / MEGABYTE:,.1f} MB"


def of_schema(state: Literal["none", "old", "current", "newer"], revision: str | None, head: str) -> Diagnostic:
    if state == "newer":
        found = f"schema {revision}, this program knows them up to {head}"
        return of_error("schema", SchemaTooNewError(found, "upgrade anticaptcha-etl; nothing was changed"))
    if state == "none":
        return Diagnostic(
            "schema", Level.NOTE, "the file holds no tables of this program yet", "anticaptcha-etl sync makes them"
        )
    if state == "old":
        of_views = f"schema {head}, with another version's views"
        found = of_views if revision == head else f"schema {revision}, this program's is {head}"
        return Diagnostic("schema", Level.NOTE, found, "sync upgrades by itself; anticaptcha-etl migrate does it now")
    return Diagnostic("schema", Level.OK, f"{head}, the newest; no other program holds it")


# ---------------------------------------------------------------- the API


def of_reach(failure: TransportError | None, status: int | None, kind: str, host: str, *, is_named: bool) -> Diagnostic:
    """Whether something answered, without a key; and with ``--probe`` whether the first question had a reply.

    ``kind`` is the reply's Content-Type. ``is_named``: the host is one that a setting names, for the vendor's own shows its
    certificate, whatever its page is.
    """
    if failure:
        hint = "check the network, the proxy (HTTPS_PROXY) and ANTICAPTCHA_API_URL"
        return Diagnostic("api", Level.PROBLEM, f"{host}: {failure.code}, {failure.reason}", hint, WINDOWS_FAILED)
    if status is not None and status >= 500:
        return Diagnostic("api", Level.WARNING, f"{host} answers, but with HTTP {status}", "wait, and look again")
    is_page = "html" in kind.lower()
    if is_named and (is_page or (status is not None and status >= 300)):
        what = f"HTTP {status}{', a web page' if is_page else ''}"
        found = f"something answers at {host} ({what}); whether it is the API is not known"
        return Diagnostic(
            "api", Level.WARNING, found, "check ANTICAPTCHA_API_URL; anticaptcha-etl doctor --probe asks it a question"
        )
    return Diagnostic("api", Level.OK, f"{host} answers (HTTP {status})")


def of_clock(requested_at: datetime, server_time: datetime | None) -> Diagnostic:
    if server_time is None:
        return Diagnostic("clock", Level.NOTE, "the server did not say what time it is")
    off = abs(server_time - requested_at)
    found = f"{round(off.total_seconds()):,} s from the server's"
    if off > MAX_CLOCK_SKEW:
        found = f"{found}: no day becomes final until they agree"
        return Diagnostic("clock", Level.WARNING, found, "set this machine's clock by NTP (timedatectl set-ntp true)")
    return Diagnostic("clock", Level.OK, found)


def of_visit(requests: int, fatal: ApiRefusal | None, last_trouble: str) -> Diagnostic:
    """How the visit of ``--probe`` went. ``last_trouble`` is empty where it could ask everything."""
    counted = f"{requests} request{'' if requests == 1 else 's'}"
    if fatal:
        refused = f"the API refused the account: {fatal.code} {fatal.description}; stopped after {counted}"
        return of_error(
            "probe",
            AccountRejectedError(refused, protocol.ACCOUNT_ERROR_HINTS.get(fatal.code, "mend the account first")),
        )
    if last_trouble:
        found = f"stopped after {counted}: too many in a row without records, the last {last_trouble}"
        return Diagnostic(
            "probe", Level.PROBLEM, found, "look again later: anticaptcha-etl doctor --probe", WINDOWS_FAILED
        )
    return Diagnostic("probe", Level.OK, f"{counted}, one after the other")


def of_lesson(
    dimension: Dimension, before: UnknownNameBehaviour, now: UnknownNameBehaviour, again: Sequence[str]
) -> Diagnostic:
    """The service treats unknown names otherwise than it did."""
    chance = f"; asked again from now on: {', '.join(again)}" if again else ""
    found = f"an unknown {dimension} gave {_gives(before)}, and now gives {_gives(now)}{chance}"
    state = Level.WARNING if now.answer is UnknownNameAnswer.TOTALS else Level.NOTE
    return Diagnostic(
        "names", state, found, "check that every name listed is spelled right" if state is Level.WARNING else ""
    )


def _gives(unknown_name_behaviour: UnknownNameBehaviour) -> str:
    return (
        f"{unknown_name_behaviour.answer} {unknown_name_behaviour.code}"
        if unknown_name_behaviour.code
        else {UnknownNameAnswer.TOTALS: "the total"}.get(
            unknown_name_behaviour.answer, str(unknown_name_behaviour.answer)
        )
    )
