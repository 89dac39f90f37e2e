"""Environment and TOML to frozen settings: the only reader of either.

Command line over environment over ``[accounts.NAME]`` over the top of the TOML over defaults. The client key stands
outside this ladder: it is never an option, never in the TOML, and is read only for commands that ask the API.

The front door reads the table of settings for ``--help``, so what only loading needs is imported there.
"""

import math
import os
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime, time
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from etl.errors import UsageError

if TYPE_CHECKING:
    from etl.secret import Secret

PREFIX = "ANTICAPTCHA_"
CONFIG_NAME = "anticaptcha-etl.toml"
DEFAULT_ACCOUNT = "default"
SOFT_ID_LIMIT = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Environment:
    """Where a command runs: what it may read besides its own words. Relative paths start at ``folder``."""

    environ: Mapping[str, str] = field(repr=False)  # it holds the key
    folder: Path

    @classmethod
    def here(cls) -> "Environment":
        return cls(os.environ, Path.cwd())


class FilePermissionWarning(NamedTuple):
    """What is wrong with who may read a file, and what to do about it."""

    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}"


class Shard(NamedTuple):
    """One of ``of`` parts of all accounts, the parts counted from 0. Each account is in exactly one, whatever others
    there are."""

    part: int
    of: int

    def has(self, account: str) -> bool:
        import hashlib

        return int.from_bytes(hashlib.sha256(account.encode()).digest()) % self.of == self.part


@dataclass(frozen=True, slots=True)
class Settings:
    """Everything a command may want to know, checked.

    Days are inclusive UTC days. ``warehouse`` is an SQLAlchemy URL; it may hold a password and is not printed.
    ``since`` is None where nothing was said and where ``all`` was: ``since_all`` tells them apart. ``rate`` is
    requests per second, 0 = no limit.
    ``max_age`` is in hours, ``lock_wait`` in seconds. ``accounts_at_once`` and ``shard`` are for ``--all`` alone.
    ``soft_ids`` are digits, ``ips`` canonical addresses. ``key`` is None unless the command needed it.
    ``sources`` says where each value came from. ``ignored`` has a sentence on each variable that looks like a setting
    and is none,
    ``exposed`` is what is wrong with the key's file where everybody may read it; None where that is not so.
    """

    account: str
    key: "Secret | None"
    api_url: str
    warehouse: str = field(repr=False)
    since: date | None
    since_all: bool
    until: date | None
    queues: tuple[str, ...]
    soft_ids: tuple[str, ...]
    ips: tuple[str, ...]
    trusted_queues: tuple[str, ...]
    trusted_soft_ids: tuple[str, ...]
    trusted_ips: tuple[str, ...]
    lookback: int
    empty_days: int
    concurrency: int
    rate: float
    keep_answers: int | None
    max_requests: int | None
    totals_only: bool
    key_changed: bool
    max_age: float | None
    checks_folder: Path | None
    publish: Path | None
    lock_wait: float
    ping_url: "Secret | None"
    quiet: bool
    verbose: bool
    log_format: str
    accounts_at_once: int
    shard: Shard | None
    sources: Mapping[str, str] = field(repr=False)
    ignored: tuple[str, ...]
    exposed: FilePermissionWarning | None


# ---------------------------------------------------------------- what a value may be
# A reader takes what the command line, the environment (both text) or TOML gave; its ValueError says what it must be.


def _text(value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("it must be a text that is not empty")
    return value.strip()


def _shown(value: object) -> str:
    """A value as TOML writes it; a text in single quotes, as TOML may."""
    match value:
        case bool():
            return str(value).lower()
        case date() | time():
            return value.isoformat()
        case list() | tuple():
            return f"[{', '.join(map(_shown, value))}]"
        case dict():
            return f"{{{', '.join(f'{key} = {_shown(item)}' for key, item in value.items())}}}"
        case _:
            return repr(value)


def _name(value: object) -> str:
    name = _text(value)
    if not name.isprintable() or "/" in name:
        raise ValueError("a name has no slash and nothing unprintable")
    return name


def _each(read: Callable[[object], str]) -> Callable[[object], tuple[str, ...]]:
    """Several in order, each once. One text holds several, separated by commas or line ends; a list is taken as it
    is."""

    def read_each(value: object) -> tuple[str, ...]:
        said = (
            re.split(r"[,\n]", value)
            if isinstance(value, str)
            else value
            if isinstance(value, list | tuple)
            else [value]
        )
        parts = (part.strip() if isinstance(part, str) else part for part in said)
        return tuple(dict.fromkeys(read(part) for part in parts if part != ""))

    return read_each


def _soft_id(value: object) -> str:
    text = str(value) if type(value) in (int, str) else ""  # true is no whole number
    number = int(text) if re.fullmatch(r"\+?[0-9]{1,12}", text) else 0
    if not 1 <= number <= SOFT_ID_LIMIT:
        raise ValueError(f"{_shown(value)} is no softId, which is a whole number from 1 to {SOFT_ID_LIMIT}")
    return str(number)


def _ip(value: object) -> str:
    """One text an address, whatever the Python: an IPv4 address dressed as IPv6 is the IPv4 address."""
    from ipaddress import ip_address

    text = value if isinstance(value, str) else ""  # a number would pass for an address
    if "/" in text:
        raise ValueError(f"{text!r} is a network; name single addresses")
    if "%" in text:
        raise ValueError(f"{text!r} has a zone, which means something on one machine only; leave it out")
    try:
        address = ip_address(text)
    except ValueError:
        raise ValueError(f"{_shown(value)} is no IP address, such as '192.0.2.10' or '2001:db8::1'") from None
    return str((address.ipv4_mapped if address.version == 6 else None) or address)


def _flag(value: object) -> bool:
    if isinstance(value, bool):
        return value
    words = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    word = value.lower() if isinstance(value, str) else ""
    if word not in words:
        raise ValueError("it must be true or false")
    return words[word]


def _whole(low: int, high: int | None, unit: str) -> Callable[[object], int]:
    span = f"from {low} to {high}" if high is not None else f"of at least {low}"

    def read(value: object) -> int:
        number = int(value) if isinstance(value, str) and re.fullmatch(r"[+-]?[0-9]{1,12}", value.strip()) else value
        if (
            isinstance(number, bool)
            or not isinstance(number, int)
            or number < low
            or (high is not None and number > high)
        ):
            raise ValueError(f"it must be a whole number of {unit} {span}")
        return number

    return read


def _measure(unit: str) -> Callable[[object], float]:
    def read(value: object) -> float:
        number = value
        if isinstance(value, str):
            try:
                number = float(value)
            except ValueError:
                number = None
        if isinstance(number, bool) or not isinstance(number, int | float) or not math.isfinite(number) or number < 0:
            raise ValueError(f"it must be a number of {unit}, 0 or more")
        return float(number)

    return read


def _day(value: object) -> date:
    if type(value) is date:  # a TOML date; a TOML date and time is a datetime and is refused
        return value
    if isinstance(value, str) and re.fullmatch(r"\d{4}-\d{2}-\d{2}", value.strip(), re.ASCII):
        try:
            return date.fromisoformat(value.strip())
        except ValueError as error:
            raise ValueError(f"there is no such day ({error})") from error
    raise ValueError("it must be a UTC day written as YYYY-MM-DD")


def _day_or_all(value: object) -> date | None:
    """None is ``all``: absence never reaches a reader."""
    if value == "all":
        return None
    try:
        return _day(value)
    except ValueError as error:
        raise ValueError(f"{error}, or all") from error


def _api_url(value: object) -> str:
    return _secure_url(value, "the key").rstrip("/")


def _ping_url(value: object) -> "Secret":
    """Who knows such a URL can say that all is well."""
    from etl.secret import Secret

    return Secret(_secure_url(value, "it is a secret and"))


def _secure_url(value: object, what: str) -> str:
    from urllib.parse import urlsplit

    url = _text(value)
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError:
        raise ValueError("it is no URL") from None  # the error quotes it
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("it must be a URL that begins with https://")
    if parts.scheme == "http" and host != "localhost" and not re.fullmatch(r"127(\.\d+){3}|::1", host):
        raise ValueError(f"{what} would travel unencrypted: plain http is for this machine only, use https://")
    return url


def _log_format(value: object) -> str:
    if value not in ("text", "json"):
        raise ValueError("it must be text or json")
    return str(value)


def _shard(value: object) -> Shard:
    said = re.fullmatch(r"([0-9]{1,6})/([0-9]{1,6})", value.strip(), re.ASCII) if isinstance(value, str) else None
    shard = Shard(*map(int, said.groups())) if said else Shard(0, 0)
    if shard.part >= shard.of:
        raise ValueError("it must be I/N, with I from 0 to N-1: 0/4, 1/4, 2/4 and 3/4 are all of four parts")
    return shard


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: ``--a-b`` on the command line, ``ANTICAPTCHA_A_B`` in the environment, ``a_b`` in the TOML.

    ``command`` is one whose help explains it, empty where it is no option of any.
    """

    name: str
    read: Callable[[object], object]
    default: object = None
    option: str = ""  # where it is not the name: --queue is repeated, so `queues`
    per_account: bool = True
    command: str = "sync"

    @property
    def spellings(self) -> tuple[str, ...]:
        return (self.name, self.option.replace("-", "_")) if self.option else (self.name,)

    @property
    def flag(self) -> str:
        return "--" + (self.option or self.name.replace("_", "-"))

    @property
    def variable(self) -> str:
        return PREFIX + self.spellings[-1].upper()


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        setting.name: setting
        for setting in (
            Setting("account", _name, DEFAULT_ACCOUNT, per_account=False),
            Setting("api_url", _api_url, "https://api.anti-captcha.com", command=""),
            Setting("warehouse", _text, "warehouse.duckdb"),
            Setting("since", _day_or_all),
            Setting("until", _day),
            Setting("queues", _each(_text), (), option="queue"),
            Setting("soft_ids", _each(_soft_id), (), option="soft-id"),
            Setting("ips", _each(_ip), (), option="ip"),
            Setting("trusted_queues", _each(_text), (), command=""),
            Setting("trusted_soft_ids", _each(_soft_id), (), command=""),
            Setting("trusted_ips", _each(_ip), (), command=""),
            Setting("lookback", _whole(0, 365, "days"), 3),
            Setting("empty_days", _whole(1, 3650, "days"), 90),
            Setting("concurrency", _whole(1, 64, "requests at once"), 4),
            Setting("rate", _measure("requests per second"), 5.0),
            Setting("keep_answers", _whole(31, None, "days")),
            Setting("max_requests", _whole(1, None, "requests")),
            Setting("totals_only", _flag, False),
            Setting("key_changed", _flag, False),
            Setting("max_age", _measure("hours"), command="status"),
            Setting("checks_folder", _text, command="check"),
            Setting("publish", _text, per_account=False, command=""),
            Setting("lock_wait", _measure("seconds"), 60.0),
            Setting("ping_url", _ping_url, command=""),
            Setting("quiet", _flag, False),
            Setting("verbose", _flag, False),
            Setting("log_format", _log_format, "text"),
            Setting("accounts_at_once", _whole(1, 64, "accounts"), 8, per_account=False),
            Setting("shard", _shard, per_account=False),
        )
    }
)
KEY_FILE, KEY_VARIABLE = "client_key_file", "client_key_env"
_SPELLINGS = {spelling: setting for setting in SETTINGS.values() for spelling in setting.spellings}


# ---------------------------------------------------------------- the TOML


class Config(NamedTuple):
    """A TOML file whose keys are all known. ``path`` is None where there is no file."""

    path: Path | None
    top: Mapping[str, object]
    accounts: Mapping[str, Mapping[str, object]]


def config_path(given: Mapping[str, object], place: Environment) -> tuple[Path, bool]:
    """Where the TOML is looked for, and whether it was named: then it must be there."""
    named = given.get("config") or place.environ.get(PREFIX + "CONFIG")
    return _under(place.folder, str(named or CONFIG_NAME)), bool(named)


def _read_config(given: Mapping[str, object], place: Environment) -> Config:
    import tomllib

    path, is_named = config_path(given, place)
    if not is_named and not path.is_file():
        return Config(None, {}, {})
    try:
        _require_trusted(path, is_named=is_named)
        top: dict[str, object] = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"the configuration {path} cannot be read: {error.strerror}", "check --config or ANTICAPTCHA_CONFIG"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(
            f"the configuration {path} is not UTF-8 text", "save the file with the encoding UTF-8"
        ) from error
    except ValueError as error:
        raise UsageError(
            f"the configuration {path} is not valid TOML: {error}", "fix that line; strings need quotes"
        ) from error
    accounts = top.pop("accounts", {})
    if not isinstance(accounts, dict) or not all(isinstance(table, dict) for table in accounts.values()):
        raise UsageError(
            f"accounts in {path} is not a table of tables", "write [accounts.NAME] and the account's settings under it"
        )
    _check_keys(top, path, "", [*_SPELLINGS, KEY_FILE, KEY_VARIABLE, "accounts"])
    own = [spelling for spelling, setting in _SPELLINGS.items() if setting.per_account]
    for name, table in accounts.items():
        _check_keys(table, path, f"[accounts.{name}] ", [*own, KEY_FILE, KEY_VARIABLE])
    return Config(path, top, accounts)


def _require_trusted(path: Path, *, is_named: bool) -> None:
    """The TOML says where the key is sent: raises UsageError when it may be a stranger's word.

    One that was not named must be its user's, root's, or of the folder's owner: in /tmp anybody can put one.
    """
    status = path.stat()
    if _everybody_may(0o002, path):
        raise UsageError(
            f"everybody on this machine can write to the configuration {path}, which says where the key is sent",
            "look through it, then chmod 644 it; on a drive without modes keep it elsewhere, and name it with --config",
        )
    if not is_named and status.st_uid not in {0, os.geteuid(), path.parent.stat().st_uid}:
        raise UsageError(
            f"the configuration {path} was put there by another user (id {status.st_uid})",
            "run this in a folder of your own, or name the file with --config if it is meant",
        )


_SECRETS = (Path("/run/secrets"), Path("/run/credentials"))
"""Where containers and systemd mount secrets: the modes there are not their user's to choose, and nobody else is
about."""


def _everybody_may(bit: int, file: Path) -> bool:
    """Whether everybody on this machine can read (0o004) or write to (0o002) a file."""
    return bool(file.stat().st_mode & bit) and not any(file.resolve().is_relative_to(place) for place in _SECRETS)


def _check_keys(table: Mapping[str, object], path: Path, where: str, known: list[str]) -> None:
    import difflib

    for key in table:
        if key in ("client_key", "key"):
            raise UsageError(
                f"{where}{key} in {path}: the key does not belong in a file that is shown around",
                f'put it in a file of its own and set {KEY_FILE} = "PATH", or {KEY_VARIABLE} = "VARIABLE"',
            )
        if key not in known:
            near = difflib.get_close_matches(key, known, n=2)
            meant = f"did you mean {' or '.join(near)}?" if near else f"known here: {', '.join(known)}"
            raise UsageError(f"{where}{key} in {path} is not a setting", meant)


def _under(folder: Path, path: str) -> Path:
    return folder / Path(path).expanduser()


# ---------------------------------------------------------------- the ladder


class Found(NamedTuple):
    """A raw value, who said it, and the folder its relative paths start at."""

    value: object
    where: str
    folder: Path


def _said(
    setting: Setting, given: Mapping[str, object], place: Environment, config: Config, account: str | None
) -> Iterator[Found]:
    """What was said about one setting, the strongest voice first. An empty variable says nothing."""
    if not any(given.get(setting.name) is nothing for nothing in (None, (), False)):  # 0 is something
        yield Found(given[setting.name], setting.flag, place.folder)
    for spelling in setting.spellings:
        variable = PREFIX + spelling.upper()
        if place.environ.get(variable, "").strip():
            yield Found(place.environ[variable], variable, place.folder)
    if config.path is None:
        return
    own = config.accounts.get(account or "", {})
    for table, title in ((own, f"[accounts.{account}] "), (config.top, "")):
        for spelling in setting.spellings:
            if spelling in table:
                yield Found(table[spelling], f"{title}{spelling} in {config.path}", config.path.parent)


def _read(setting: Setting, found: Found) -> object:
    try:
        return setting.read(found.value)
    except ValueError as error:
        several = found.value if isinstance(found.value, list | tuple) else [found.value]
        is_private = setting.name in ("warehouse", "ping_url")  # a URL may hold a password
        shown = "refused" if is_private else ", ".join(map(_shown, several))
        hint = f"fix {found.where}"
        if found.where == setting.flag and any("," in str(one) for one in several):
            hint = f"repeat {setting.flag} for each of several"
        see = f"; see `anticaptcha-etl {setting.command} --help`" if setting.command else ""
        raise UsageError(f"{found.where} is {shown}: {error}", hint + see) from error


def load(given: Mapping[str, object], now: datetime, place: Environment, *, needs_key: bool = False) -> Settings:
    """The settings of one command. ``given`` is what the command line said, by the names of ``SETTINGS`` (and
    ``config``).

    Raises UsageError for anything that is not as it should be, saying which value, where it stands and what it must be.
    """
    return _load(given, now, place, _read_config(given, place), needs_key=needs_key)


@dataclass(frozen=True, slots=True)
class Accounts:
    """The accounts of a TOML that was read once. ``names`` are in its order."""

    names: tuple[str, ...]
    _given: Mapping[str, object]
    _place: Environment
    _config: Config

    def general(self, now: datetime) -> Settings:
        """What would hold if no account had a table. Raises UsageError as ``load`` does."""
        return _load(self._given, now, self._place, self._config._replace(accounts={}))

    def settings(self, name: str, now: datetime, *, needs_key: bool = False) -> Settings:
        """As ``load`` gives them to ``--account NAME``. Raises UsageError as it does."""
        return _load({**self._given, "account": name}, now, self._place, self._config, needs_key=needs_key)


def accounts(given: Mapping[str, object], place: Environment) -> Accounts:
    """Every account that has a table in the TOML. Raises UsageError where none has, and where one is asked for by its
    name."""
    variable = SETTINGS["account"].variable
    if given.get("account") or place.environ.get(variable, "").strip():
        said = SETTINGS["account"].flag if given.get("account") else variable
        raise UsageError(f"--all is every account, {said} is one", "say either")
    config = _read_config(given, place)
    if not config.accounts:
        raise UsageError(
            f"--all syncs every account of the TOML, and {config_path(given, place)[0]} has none",
            f'write [accounts.NAME] for each, and below it {KEY_FILE} = "PATH" of a file that holds its key',
        )
    return Accounts(tuple(config.accounts), given, place, config)


def _load(
    given: Mapping[str, object], now: datetime, place: Environment, config: Config, *, needs_key: bool = False
) -> Settings:
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    folder = place.folder
    for setting in SETTINGS.values():  # `account` stands first: the others are looked up under its name
        found = next(_said(setting, given, place, config, values.get("account")), None)
        values[setting.name] = setting.default if found is None else _read(setting, found)
        sources[setting.name] = "default" if found is None else found.where
        if setting.name == "warehouse" and found is not None:
            folder = found.folder
        if setting.name in ("checks_folder", "publish") and found is not None:
            values[setting.name] = _under(found.folder, values[setting.name])
    values["since_all"] = values["since"] is None and sources["since"] != "default"
    values["warehouse"] = _warehouse_url(values["warehouse"], folder)
    _check_days(values["since"], values["until"], now.date(), sources)
    key, exposed = None, None
    if needs_key:
        key, sources["key"] = _client_key(values["account"], place, config)
        file = _key_file(values["account"], place, config)
        exposed = _exposed(file) if file else None
    ignored = tuple(_ignored(place, config))
    return Settings(**values, key=key, sources=MappingProxyType(sources), ignored=ignored, exposed=exposed)


def _warehouse_url(text: str, folder: Path) -> str:
    """A URL stays as it is; a path means a DuckDB file, below ``folder`` unless absolute."""
    if "://" in text:
        return text
    if "?" in text:
        raise UsageError(
            f"the warehouse {text} has a question mark, where a URL's options would begin", "rename the file"
        )
    return f"duckdb:///{os.path.normpath(_under(folder, text))}"


def _check_days(since: date | None, until: date | None, today: date, sources: Mapping[str, str]) -> None:
    for name, day in (("since", since), ("until", until)):
        if day and day > today:
            raise UsageError(f"{sources[name]} is {day}, but today is {today} (UTC)", "give a day that has begun")
    if since and until and since > until:
        raise UsageError(
            f"{sources['since']} is {since}, which is after {until} of {sources['until']}",
            "swap them, or give one alone",
        )


def _ignored(place: Environment, config: Config) -> Iterator[str]:
    """A sentence on each variable that looks like a setting and is none. Values are not shown: one may be a key."""
    import difflib

    known = [name.upper() for name in (*_SPELLINGS, "config", "client_key", KEY_FILE)]
    of_keys = [table.get(KEY_VARIABLE) for table in (config.top, *config.accounts.values())]
    for variable, value in sorted(place.environ.items()):
        name = variable.removeprefix(PREFIX)
        if name == variable or name in known or variable in of_keys or not value.strip():
            continue
        near = difflib.get_close_matches(name, known, n=1)  # without the prefix, by which any two would be alike
        meant = f"; did you mean {PREFIX}{near[0]}?" if near else ""
        yield f"{variable} is not a setting and is ignored{meant}"


# ---------------------------------------------------------------- the key


def _client_key(account: str, place: Environment, config: Config) -> "tuple[Secret, str]":
    """The account's key and where it was found.

    The place an account names in the TOML is the only one looked at for it: the general variables may hold another
    account's key.
    """
    own = config.accounts.get(account, {})
    general = {
        name: PREFIX + name.upper() for name in ("client_key", KEY_FILE) if PREFIX + name.upper() in place.environ
    }
    if KEY_FILE in own or KEY_VARIABLE in own:
        return _key_by_table(own, f"[accounts.{account}] ", place, config)
    if len(general) == 2:
        raise UsageError("ANTICAPTCHA_CLIENT_KEY and ANTICAPTCHA_CLIENT_KEY_FILE are both set", "unset one of them")
    if "client_key" in general:
        return _clean_key(place.environ[general["client_key"]], general["client_key"]), general["client_key"]
    if general:
        variable = general[KEY_FILE]
        return _key_in_file(place.environ[variable], variable, place.folder), variable
    if KEY_FILE in config.top or KEY_VARIABLE in config.top:
        return _key_by_table(config.top, "", place, config)
    raise _no_key(account, place, config)


def key_file(account: str, given: Mapping[str, object], place: Environment) -> Path | None:
    """The file that is to hold the account's key, there or not; None where a variable is named, or nothing."""
    return _key_file(account, place, _read_config(given, place))


def _key_file(account: str, place: Environment, config: Config) -> Path | None:
    own = config.accounts.get(account, {})
    variables = {name: place.environ.get(PREFIX + name.upper()) for name in ("client_key", KEY_FILE)}
    if KEY_FILE in own or KEY_VARIABLE in own or all(said is None for said in variables.values()):
        named = (own if KEY_FILE in own or KEY_VARIABLE in own else config.top).get(KEY_FILE)
        folder = config.path.parent if config.path else place.folder
    else:
        named, folder = variables[KEY_FILE], place.folder
    return _under(folder, named) if isinstance(named, str) and named.strip() else None


def _exposed(file: Path) -> FilePermissionWarning | None:
    """What is wrong with who may read the key's file. A group is somebody's choice, everybody is a slip."""
    if not _everybody_may(0o004, file):
        return None
    mode = file.stat().st_mode & 0o777
    return FilePermissionWarning(
        f"everybody on this machine can read the client key's file (mode {mode:03o})", "chmod 600 it"
    )


def _no_key(account: str, place: Environment, config: Config) -> UsageError:
    import difflib

    near = difflib.get_close_matches(PREFIX + "CLIENT_KEY", place.environ, n=1, cutoff=0.75)
    stray = f" ({near[0]} is set, but is not a name this program reads)" if near else ""
    others = f"; {config.path} has accounts: {', '.join(config.accounts)} (--account NAME)" if config.accounts else ""
    return UsageError(
        f"account {account!r} has no client key{stray}{others}",
        "export ANTICAPTCHA_CLIENT_KEY=..., or ANTICAPTCHA_CLIENT_KEY_FILE=PATH of a file that holds it, or write "
        f'{KEY_FILE} = "PATH" under [accounts.{account}] in {CONFIG_NAME}; `anticaptcha-etl demo` needs no key',
    )


def _key_by_table(table: Mapping[str, object], title: str, place: Environment, config: Config) -> "tuple[Secret, str]":
    if KEY_FILE in table and KEY_VARIABLE in table:
        raise UsageError(f"{title}{KEY_FILE} and {KEY_VARIABLE} are both in {config.path}", "keep one of them")
    name = KEY_FILE if KEY_FILE in table else KEY_VARIABLE
    where = f"{title}{name} in {config.path}"
    said = table[name]
    if not isinstance(said, str) or not said.strip():
        raise UsageError(
            f"{where} is {_shown(said)}, not a text",
            "give a file's path" if name == KEY_FILE else "give a variable's name",
        )
    if name == KEY_FILE:
        return _key_in_file(said, where, config.path.parent if config.path else place.folder), where
    if said not in place.environ:
        raise UsageError(f"{where} names the variable {said}, which is not set", f"export {said}=...")
    return _clean_key(place.environ[said], said), said


def _key_in_file(path: str, where: str, folder: Path) -> "Secret":
    file = _under(folder, path)
    try:
        if _everybody_may(0o002, file):
            raise UsageError(
                f"{where} names {file}, which everybody on this machine can write to",
                "chmod 600 it, and look whose key it holds",
            )
        text = file.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise UsageError(
            f"{where} names {file}, which cannot be read: {error.strerror}", "check the path and its permissions"
        ) from error
    except UnicodeDecodeError:
        raise UsageError(
            f"{where} names {file}, which is not a text", "put the key alone into that file"
        ) from None  # the error quotes bytes
    return _clean_key(text, f"{file}")


def _clean_key(text: str, where: str) -> "Secret":
    """Messages never quote the text: it is a key, or a neighbour of one."""
    key = text.strip()
    if not key:
        raise UsageError(
            f"the client key in {where} is empty", "copy it from the account's settings page at anti-captcha.com"
        )
    if not key.isprintable() or re.search(r"\s", key):
        raise UsageError(
            f"the client key in {where} has a space or a control character inside",
            "put the key alone there, on one line",
        )
    if key[0] in "\"'" or key[-1] in "\"'":
        raise UsageError(f"the client key in {where} stands in quotes", "remove them: nothing unquotes it on the way")
    from etl.secret import Secret

    return Secret(key)
