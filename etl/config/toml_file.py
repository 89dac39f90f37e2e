"""Find and read the configuration file."""

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import NamedTuple

from etl.config.alert_rules import AlertRule, read_rules
from etl.config.environment import CONFIG_NAME, PREFIX, Environment, resolve_path
from etl.config.permissions import everyone_can
from etl.config.settings import SETTING_BY_NAME
from etl.errors import UsageError

KEY_FILE, KEY_VARIABLE = "client_key_file", "client_key_env"
"""Keys of the TOML file that say where the client key is."""


class ConfigFile(NamedTuple):
    """Content of a configuration file, its keys checked. ``path`` is None if there is no file."""

    path: Path | None
    top: Mapping[str, object]
    accounts: Mapping[str, Mapping[str, object]]
    alerts: tuple[AlertRule, ...] = ()

    def tables(self, account: str) -> list[tuple[str, Mapping[str, object]]]:
        """Return the account's table and the top of the file, each with the start of its keys in messages."""
        return [(f"[accounts.{account}] ", self.accounts.get(account, {})), ("", self.top)]


def config_path(given: Mapping[str, object], environment: Environment) -> tuple[Path, bool]:
    """Return the path of the configuration file, and whether the user named it: then it must exist."""
    named = given.get("config") or environment.environ.get(PREFIX + "CONFIG")
    return resolve_path(environment.folder, str(named or CONFIG_NAME)), bool(named)


def read_config(given: Mapping[str, object], environment: Environment) -> ConfigFile:
    """Read and check the configuration file. Raises UsageError."""
    import tomllib

    path, is_named = config_path(given, environment)
    if not is_named and not path.is_file():
        return ConfigFile(None, {}, {})
    try:
        _require_trusted(path, is_named=is_named)
        top = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise UsageError(
            f"cannot read the configuration file {path}: {error.strerror}", "check --config or ANTICAPTCHA_CONFIG"
        ) from error
    except UnicodeDecodeError as error:
        raise UsageError(f"the configuration file {path} is not UTF-8 text", "save it in the encoding UTF-8") from error
    except ValueError as error:
        raise UsageError(
            f"the configuration file {path} is not valid TOML: {error}", "fix that line; strings need quotes"
        ) from error
    accounts, rules = top.pop("accounts", {}), read_rules(top.pop("alerts", []), path)
    if not isinstance(accounts, dict) or not all(isinstance(table, dict) for table in accounts.values()):
        raise UsageError(f"accounts in {path} is not a table of tables", "write [accounts.NAME] above its settings")
    config = ConfigFile(path, top, accounts, rules)
    _check_keys(top, path, "", [*SETTING_BY_NAME, KEY_FILE, KEY_VARIABLE, "accounts", "alerts"])
    per_account = [name for name, setting in SETTING_BY_NAME.items() if setting.per_account]
    for account, table in accounts.items():
        _check_keys(table, path, f"[accounts.{account}] ", [*per_account, KEY_FILE, KEY_VARIABLE])
    return config


def _check_keys(table: Iterable[str], path: Path, title: str, known: list[str]) -> None:
    """Raise UsageError for an unknown key, and for one that seems to hold the client key itself."""
    import difflib

    for key in table:
        if key in ("client_key", "key"):
            raise UsageError(
                f"{title}{key} in {path}: the client key must not be in the configuration file",
                f'put it into a file of its own and set {KEY_FILE} = "PATH", or set {KEY_VARIABLE} = "VARIABLE"',
            )
        if key not in known:
            similar = difflib.get_close_matches(key, known, n=2)
            hint = f"did you mean {' or '.join(similar)}?" if similar else f"known settings: {', '.join(known)}"
            raise UsageError(f"{title}{key} in {path} is not a setting", hint)


def _require_trusted(path: Path, *, is_named: bool) -> None:
    """Raise UsageError if another user could have written the file: it decides where the client key is sent.

    A file that was not named must belong to this user, to root or to the owner of the folder; any user can create
    one in /tmp.
    """
    status = path.stat()
    if everyone_can(0o002, path):
        raise UsageError(
            f"every user of this machine can write to the configuration file {path}, which says where the key is sent",
            "check its content, then chmod 644 it; if the drive has no file modes, move it and use --config",
        )
    if not is_named and status.st_uid not in {0, os.geteuid(), path.parent.stat().st_uid}:
        raise UsageError(
            f"the configuration file {path} belongs to another user (id {status.st_uid})",
            "change to a folder of your own, or name the file with --config if you trust it",
        )
