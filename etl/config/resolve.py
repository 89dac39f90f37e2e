"""Combine all sources into the settings of a command."""

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from etl.config.client_key import locate_key, read_key
from etl.config.environment import PREFIX, Environment, resolve_path
from etl.config.settings import SETTING_BY_NAME, SETTINGS, Setting, Settings, variable
from etl.config.toml_file import KEY_FILE, KEY_VARIABLE, ConfigFile, config_path, read_config
from etl.config.values import format_value, is_loopback
from etl.errors import UsageError


class RawValue(NamedTuple):
    """An unchecked value, where it comes from, and the folder that relative paths in it start at."""

    value: object
    source: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Sources:
    """Everything that settings are read from. ``given``: values from the command line by setting name."""

    given: Mapping[str, object]
    environment: Environment
    config: ConfigFile

    def find(self, setting: Setting, account: str) -> RawValue | None:
        """Return the value of a setting for an account, from the source with the highest precedence."""
        return next(self._candidates(setting, account), None)

    def _candidates(self, setting: Setting, account: str) -> Iterator[RawValue]:
        environ, folder = self.environment.environ, self.environment.folder
        for name, flag in ((setting.name, setting.flag), (setting.old_name, setting.old_flag)):
            if self.given.get(name) is not None:
                yield RawValue(self.given[name], flag, folder)
        for name in map(variable, setting.names):
            if environ.get(name, "").strip():  # an empty variable counts as unset
                yield RawValue(environ[name], name, folder)
        if self.config.path:
            for title, table in self.config.tables(account):
                for name in setting.names:
                    if name in table:
                        yield RawValue(table[name], f"{title}{name} in {self.config.path}", self.config.path.parent)


@dataclass(frozen=True, slots=True)
class Accounts:
    """All accounts of a configuration file that was read once. ``names`` are in the order of the file."""

    names: tuple[str, ...]
    _sources: Sources

    def general(self, now: datetime) -> Settings:
        """Return the settings without any account's table. Raises UsageError."""
        config = self._sources.config._replace(accounts={})
        return _resolve(replace(self._sources, config=config), now, needs_key=False)

    def settings(self, name: str, now: datetime, *, needs_key: bool = False) -> Settings:
        """Return the settings of one account, as ``load`` does for ``--account NAME``. Raises UsageError."""
        given = {**self._sources.given, "account": name}
        return _resolve(replace(self._sources, given=given), now, needs_key=needs_key)


def load(given: Mapping[str, object], now: datetime, environment: Environment, *, needs_key: bool = False) -> Settings:
    """Return the settings of one command. ``given``: values from the command line, by setting name or ``config``.

    Raises UsageError for an invalid value; the message says which, where it comes from and what it must be.
    """
    sources = Sources(given, environment, read_config(given, environment))
    return _resolve(sources, now, needs_key=needs_key)


def accounts(given: Mapping[str, object], environment: Environment) -> Accounts:
    """Return all accounts of the configuration file. Raises UsageError if there are none, or if one is selected."""
    setting = SETTINGS["account"]
    if given.get("account") or environment.environ.get(setting.variable, "").strip():
        source = setting.flag if given.get("account") else setting.variable
        raise UsageError(f"--all means every account, {source} is one", "use only one of them")
    config = read_config(given, environment)
    if not config.accounts:
        raise UsageError(
            f"--all means every account in the configuration file, but {config_path(given, environment)[0]} has none",
            f'add a table [accounts.NAME] for each, with {KEY_FILE} = "PATH" of a file that contains its key',
        )
    return Accounts(tuple(config.accounts), Sources(given, environment, config))


def key_place(account: str, given: Mapping[str, object], environment: Environment) -> str | None:
    """Return the setting that says where the account's key is; None if there is none. Raises UsageError."""
    location = locate_key(account, environment, read_config(given, environment))
    return location.source if location else None


def key_file(account: str, given: Mapping[str, object], environment: Environment) -> Path | None:
    """Return the file that should contain the account's key; None if the key is elsewhere or not configured."""
    try:
        location = locate_key(account, environment, read_config(given, environment))
    except UsageError:
        return None
    return location.file if location else None


def _resolve(sources: Sources, now: datetime, *, needs_key: bool) -> Settings:
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    for name, setting in SETTINGS.items():  # the account is first: other values depend on it
        raw = sources.find(setting, values.get("account", ""))
        folder = raw.folder if raw else sources.environment.folder
        value = _read(setting, raw) if raw else setting.default
        if name == "warehouse":
            value = _warehouse_url(str(value), folder)
        elif name == "state_folder" and value is None:
            value = folder / sources.environment.state_folder / "anticaptcha-etl"
        elif name in ("checks_folder", "publish", "state_folder") and value is not None:
            value = resolve_path(folder, str(value))
        elif name == "lake" and value is not None and "://" not in str(value):
            value = str(resolve_path(folder, str(value)))
        values[name], origins[name] = value, raw.source if raw else "default"
    if origins["rate"] == "default" and is_loopback(urlsplit(values["api_url"]).hostname or ""):
        values["rate"], origins["rate"] = 0.0, "default for an API on this machine"
    _check_days(values["since"], values["until"], now.date(), origins)
    key = read_key(values["account"], sources.environment, sources.config) if needs_key else None
    if key:
        origins["key"] = key.source
    account = values["account"]
    return Settings(
        **values,
        alerts=tuple(rule for rule in sources.config.alerts if rule.account in (None, account)),
        since_all=values["since"] is None and origins["since"] != "default",
        key=key.key if key else None,
        exposed=key.exposed if key else None,
        sources=MappingProxyType(origins),
        ignored=tuple(_unknown_variables(sources)),
    )


def _read(setting: Setting, raw: RawValue) -> object:
    try:
        return setting.read(raw.value)
    except ValueError as error:
        items = raw.value if isinstance(raw.value, list | tuple) else [raw.value]
        is_secret = setting.name in ("warehouse", "ping_url", "notify")  # URLs may contain passwords
        shown = "refused" if is_secret else ", ".join(map(format_value, items))
        hint = f"fix {raw.source}"
        if raw.source == setting.flag and any("," in str(item) for item in items):
            hint = f"repeat {setting.flag} for each value"
        see = f"; see `anticaptcha-etl {setting.command} --help`" if setting.command else ""
        raise UsageError(f"{raw.source} is {shown}: {error}", hint + see) from error


def _warehouse_url(text: str, folder: Path) -> str:
    """Return a URL unchanged; a path is a DuckDB file, relative to ``folder``."""
    if "://" in text:
        return text
    if "?" in text:
        raise UsageError(
            f"DuckDB cannot write its log for a path with a question mark: {text}", "rename the file or folder"
        )
    return f"duckdb:///{os.path.normpath(resolve_path(folder, text))}"


def _check_days(since: date | None, until: date | None, today: date, origins: Mapping[str, str]) -> None:
    for name, day in (("since", since), ("until", until)):
        if day and day > today:
            raise UsageError(f"{origins[name]} is {day}, but today is {today} (UTC)", "use a day that is not later")
    if since and until and since > until:
        message = f"{origins['since']} is {since}, which is after {until} of {origins['until']}"
        raise UsageError(message, "swap them, or leave one out")


def _unknown_variables(sources: Sources) -> Iterator[str]:
    """Yield a warning for each variable with our prefix that is not a setting. Its value may be a key: not shown."""
    import difflib

    known = [variable(name) for name in (*SETTING_BY_NAME, "config", "client_key", KEY_FILE)]
    tables = (sources.config.top, *sources.config.accounts.values())
    key_variables = [table.get(KEY_VARIABLE) for table in tables]
    for name, value in sorted(sources.environment.environ.items()):
        if not name.startswith(PREFIX) or not value.strip() or name in known or name in key_variables:
            continue
        endings = [one.removeprefix(PREFIX) for one in known]  # with the prefix all names would be similar
        similar = difflib.get_close_matches(name.removeprefix(PREFIX), endings, n=1)
        suggestion = f"; did you mean {PREFIX}{similar[0]}?" if similar else ""
        yield f"{name} is not a setting and is ignored{suggestion}"
