"""What a doctor says of what was found: each thing looked at, how it is, and what to do about it. Pure."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from enum import StrEnum
from typing import Literal, NamedTuple

from etl.errors import AccountRefusedError, ProblemError, UsageError, WarehouseError, WarehouseNewerError
from etl.extract import wire
from etl.records import MOST_SKEW, Cut, Lesson, Refusal, Unknown, Unreachable
from etl.settings import Exposed

MEGABYTE = 10**6
LEAST_SPACE = 50 * MEGABYTE
"""With less than this a commit may fail."""
LITTLE_SPACE = 500 * MEGABYTE

WINDOWS_FAILED = 1
"""Exit code of a sync whose windows fail."""


class State(StrEnum):
    OK = "ok"
    NOTE = "note"
    """It is so; nothing is to be done now."""
    WARNING = "warning"
    """Something to mend; a sync works."""
    PROBLEM = "problem"
    """A sync would fail."""


@dataclass(frozen=True, slots=True)
class Advice:
    """One thing looked at. ``exit_code`` is what the problem would give a sync; 0 where there is none."""

    name: str
    state: State
    found: str
    remedy: str = ""
    exit_code: int = 0


def of_error(name: str, error: ProblemError) -> Advice:
    return Advice(name, State.PROBLEM, error.message, error.remedy, error.exit_code)


# ---------------------------------------------------------------- what is installed


class Package(NamedTuple):
    """A dependency: the bounds this program gives it, and what is installed (None: nothing)."""

    name: str
    bounds: str
    version: str | None
    fits: bool


def of_packages(packages: Sequence[Package]) -> Iterator[Advice]:
    """One line for all that fit, one for each that does not."""
    fitting = [f"{package.name} {package.version}" for package in packages if package.fits]
    if fitting:
        yield Advice("packages", State.OK, ", ".join(fitting))
    else:
        yield Advice("packages", State.NOTE, "this program is not installed as a package, so its bounds are not known")
    for package in packages:
        if not package.fits:
            found = f"{package.name} {package.version or 'is missing'}, this program was tried with {package.bounds}"
            yield Advice("packages", State.WARNING, found, f"pip install '{package.name}{package.bounds}'")


# ---------------------------------------------------------------- settings and the key


class Told(NamedTuple):
    """A setting's value and who said it."""

    name: str
    value: str
    source: str


def of_settings(told: Sequence[Told], ignored: Iterable[str]) -> Iterator[Advice]:
    said = [one for one in told if one.source != "default"]
    rest = "all are defaults" if not said else f"the other {len(told) - len(said)} are defaults"
    yield Advice("settings", State.OK, "\n".join([*(f"{one.name}: {one.value}, from {one.source}" for one in said), rest]))
    yield from (Advice("settings", State.WARNING, sentence, "unset it, or mend its name") for sentence in ignored)


def of_span(until: date, since: date) -> Advice:
    """``--until`` ends before what an earlier ``--since`` asked for begins."""
    found = f"--until {until} is before {since}, which an earlier --since asked for"
    return of_error("settings", UsageError(found, "say another --since too, or --since all"))


def of_key(source: str, exposed: Exposed | None) -> Iterator[Advice]:
    """The key is there. ``exposed`` says that everybody may read its file, where that is so."""
    yield Advice("key", State.OK, f"there, from {source}")
    if exposed:
        yield Advice("key", State.WARNING, exposed.what, exposed.remedy)


# ---------------------------------------------------------------- the warehouse


@dataclass(frozen=True, slots=True)
class Site:
    """Where the warehouse is, or would be. ``size`` is None when there is no file; ``free`` bytes are those of its disk."""

    path: str
    folder: str
    has_folder: bool
    can_write: bool
    size: int | None
    mode: int
    free: int


def of_site(site: Site) -> Iterator[Advice]:
    if not site.has_folder:
        yield of_error("file", WarehouseError(f"the folder {site.folder} does not exist", f"mkdir -p '{site.folder}'"))
        return
    if site.size is None:
        yield Advice("file", State.NOTE, f"there is no warehouse at {site.path} yet", "anticaptcha-etl sync makes one")
    else:
        yield Advice("file", State.OK, f"{site.path}, {_bytes(site.size)}")
    if not site.can_write:
        what = f"{site.path} and its folder" if site.size is not None else f"the folder {site.folder}"
        remedy = "run as its owner, or mend the permissions; a sync writes the file and, beside it, its log and its lock"
        yield of_error("file", WarehouseError(f"{what} cannot be written by this user", remedy))
    if site.size is not None and site.mode & 0o077:
        found = f"others on this machine can read it (mode {site.mode:03o})"
        yield Advice("file", State.NOTE, found, "chmod 600, unless that is meant")
    yield _of_space(site)


def of_server(name: str, version: str, *, may_write: bool) -> Iterator[Advice]:
    """Where the warehouse is on a server. ``may_write``: whether this user may do there what a sync does."""
    yield Advice("server", State.OK, f"{name}, PostgreSQL {version}")
    if not may_write:
        what = f"this user may not write the warehouse's tables, or make them, on {name}"
        yield of_error("server", WarehouseError(what, "grant it create on the schema, or be the tables' owner: a sync makes both"))


def _of_space(site: Site) -> Advice:
    found = f"{_bytes(site.free)} free"
    if site.free < LEAST_SPACE:
        return of_error("space", WarehouseError(f"{found}: the disk is nearly full", "make room; what was committed is kept"))
    if site.free < max(LITTLE_SPACE, site.size or 0):
        return Advice("space", State.WARNING, f"{found}, which is little", "make room before the disk is full")
    return Advice("space", State.OK, found)


def _bytes(count: int) -> str:
    return f"{count / 10**9:,.1f} GB" if count >= 10**9 else f"{count / MEGABYTE:,.1f} MB"


def of_schema(state: Literal["none", "old", "current", "newer"], revision: str | None, head: str) -> Advice:
    if state == "newer":
        found = f"schema {revision}, this program knows them up to {head}"
        return of_error("schema", WarehouseNewerError(found, "upgrade anticaptcha-etl; nothing was changed"))
    if state == "none":
        return Advice("schema", State.NOTE, "the file holds no tables of this program yet", "anticaptcha-etl sync makes them")
    if state == "old":
        of_views = f"schema {head}, with another version's views"
        found = of_views if revision == head else f"schema {revision}, this program's is {head}"
        return Advice("schema", State.NOTE, found, "sync upgrades by itself; anticaptcha-etl migrate does it now")
    return Advice("schema", State.OK, f"{head}, the newest; no other program holds it")


# ---------------------------------------------------------------- the API


def of_reach(trouble: Unreachable | None, status: int | None, kind: str, host: str, *, is_named: bool) -> Advice:
    """Whether something answered, without a key; and with ``--probe`` whether the first question had a reply.

    ``kind`` is the reply's Content-Type. ``is_named``: the host is one that a setting names, for the vendor's own shows its
    certificate, whatever its page is.
    """
    if trouble:
        remedy = "check the network, the proxy (HTTPS_PROXY) and ANTICAPTCHA_API_URL"
        return Advice("api", State.PROBLEM, f"{host}: {trouble.code}, {trouble.reason}", remedy, WINDOWS_FAILED)
    if status is not None and status >= 500:
        return Advice("api", State.WARNING, f"{host} answers, but with HTTP {status}", "wait, and look again")
    is_page = "html" in kind.lower()
    if is_named and (is_page or (status is not None and status >= 300)):
        what = f"HTTP {status}{', a web page' if is_page else ''}"
        found = f"something answers at {host} ({what}); whether it is the API is not known"
        return Advice("api", State.WARNING, found, "check ANTICAPTCHA_API_URL; anticaptcha-etl doctor --probe asks it a question")
    return Advice("api", State.OK, f"{host} answers (HTTP {status})")


def of_clock(asked_at: datetime, server_time: datetime | None) -> Advice:
    if server_time is None:
        return Advice("clock", State.NOTE, "the server did not say what time it is")
    off = abs(server_time - asked_at)
    found = f"{round(off.total_seconds()):,} s from the server's"
    if off > MOST_SKEW:
        found = f"{found}: no day becomes final until they agree"
        return Advice("clock", State.WARNING, found, "set this machine's clock by NTP (timedatectl set-ntp true)")
    return Advice("clock", State.OK, found)


def of_visit(requests: int, fatal: Refusal | None, last_trouble: str) -> Advice:
    """How the visit of ``--probe`` went. ``last_trouble`` is empty where it could ask everything."""
    counted = f"{requests} request{'' if requests == 1 else 's'}"
    if fatal:
        refused = f"the API refused the account: {fatal.code} {fatal.description}; stopped after {counted}"
        return of_error("probe", AccountRefusedError(refused, wire.REMEDIES.get(fatal.code, "mend the account first")))
    if last_trouble:
        found = f"stopped after {counted}: too many in a row without records, the last {last_trouble}"
        return Advice("probe", State.PROBLEM, found, "look again later: anticaptcha-etl doctor --probe", WINDOWS_FAILED)
    return Advice("probe", State.OK, f"{counted}, one after the other")


def of_lesson(cut: Cut, before: Lesson, now: Lesson, again: Sequence[str]) -> Advice:
    """The service treats unknown names otherwise than it did."""
    chance = f"; asked again from now on: {', '.join(again)}" if again else ""
    found = f"an unknown {cut} gave {_gives(before)}, and now gives {_gives(now)}{chance}"
    state = State.WARNING if now.gives is Unknown.TOTALS else State.NOTE
    return Advice("names", state, found, "check that every name listed is spelled right" if state is State.WARNING else "")


def _gives(lesson: Lesson) -> str:
    return f"{lesson.gives} {lesson.code}" if lesson.code else {Unknown.TOTALS: "the total"}.get(lesson.gives, str(lesson.gives))
