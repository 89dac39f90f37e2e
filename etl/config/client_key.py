"""Find and read an account's client key.

If the account's own table in the configuration file says where its key is, no other place is used: the general
variables may hold the key of another account. Otherwise the variables come first, then the top of the file.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from etl.config.environment import CONFIG_NAME, PREFIX, Environment, resolve_path
from etl.config.permissions import FilePermissionWarning, everyone_can
from etl.config.toml_file import KEY_FILE, KEY_VARIABLE, ConfigFile
from etl.config.values import format_value
from etl.errors import UsageError
from etl.secret import Secret

GENERAL_VARIABLE, GENERAL_FILE_VARIABLE = PREFIX + "CLIENT_KEY", PREFIX + "CLIENT_KEY_FILE"


class KeyLocation(NamedTuple):
    """Where a client key is: in a variable, or in a file. ``source`` is the setting that names it."""

    source: str
    variable: str = ""
    file: Path | None = None


class ClientKey(NamedTuple):
    """A client key, where it was found, and a warning if every user can read its file."""

    key: Secret
    source: str
    exposed: FilePermissionWarning | None = None


def locate_key(account: str, environment: Environment, config: ConfigFile) -> KeyLocation | None:
    """Return where the account's client key is, without reading it. Raises UsageError for contradictory settings."""
    (own_title, own_table), (top_title, top_table) = config.tables(account)
    return (
        _locate_by_table(own_table, own_title, config)
        or _locate_by_variables(environment)
        or _locate_by_table(top_table, top_title, config)
    )


def _locate_by_table(table: Mapping[str, object], title: str, config: ConfigFile) -> KeyLocation | None:
    found = [name for name in (KEY_FILE, KEY_VARIABLE) if name in table]
    if config.path is None or not found:
        return None
    if len(found) > 1:
        raise UsageError(f"{title}{KEY_FILE} and {KEY_VARIABLE} are both in {config.path}", "keep one of them")
    source, value = f"{title}{found[0]} in {config.path}", table[found[0]]
    if not isinstance(value, str) or not value.strip():
        expected = "the path of a file" if found[0] == KEY_FILE else "the name of a variable"
        raise UsageError(f"{source} is {format_value(value)}, not a text", f"set it to {expected}")
    if found[0] == KEY_FILE:
        return KeyLocation(source, file=resolve_path(config.path.parent, value))
    return KeyLocation(source, variable=value)


def _locate_by_variables(environment: Environment) -> KeyLocation | None:
    found = [name for name in (GENERAL_VARIABLE, GENERAL_FILE_VARIABLE) if name in environment.environ]
    if len(found) > 1:
        raise UsageError(f"{' and '.join(found)} are both set", "unset one of them")
    if found == [GENERAL_FILE_VARIABLE]:
        path = environment.environ[GENERAL_FILE_VARIABLE]
        return KeyLocation(GENERAL_FILE_VARIABLE, file=resolve_path(environment.folder, path))
    return KeyLocation(GENERAL_VARIABLE, variable=GENERAL_VARIABLE) if found else None


def read_key(account: str, environment: Environment, config: ConfigFile) -> ClientKey:
    """Read the account's client key. Raises UsageError if it is missing or is not a key; messages never contain it."""
    location = locate_key(account, environment, config)
    if location is None:
        raise _missing_key(account, environment, config)
    if location.file:
        key = clean_key(_read_file(location.source, location.file), f"{location.file}")
        return ClientKey(key, location.source, _exposed(location.file))
    if location.variable not in environment.environ:
        raise UsageError(
            f"{location.source} names the variable {location.variable}, which is not set",
            f"export {location.variable}=...",
        )
    key = clean_key(environment.environ[location.variable], location.variable)
    return ClientKey(key, location.variable)


def _read_file(source: str, file: Path) -> str:
    try:
        if everyone_can(0o002, file):
            raise UsageError(
                f"{source} names {file}, which every user of this machine can write to",
                "chmod 600 it, and check that it contains your key",
            )
        return file.read_text(encoding="utf-8-sig")
    except OSError as error:
        message = f"{source} names {file}, which cannot be read: {error.strerror}"
        raise UsageError(message, "check the path and its permissions") from error
    except UnicodeDecodeError:  # not chained: the error quotes bytes of the file
        raise UsageError(f"{source} names {file}, which is not a text file", "write only the key to it") from None


def clean_key(text: str, place: str) -> Secret:
    """Return a key without spaces around it. Raises UsageError if it cannot be one; ``place`` says where it was."""
    key = text.strip()
    if not key:
        raise UsageError(
            f"the client key in {place} is empty", "copy it from your account settings at anti-captcha.com"
        )
    if not key.isprintable() or re.search(r"\s", key):
        message = f"the client key in {place} contains a space or a control character"
        raise UsageError(message, "write only the key there, on one line")
    if key[0] in "\"'" or key[-1] in "\"'":
        raise UsageError(f"the client key in {place} is in quotes", "remove the quotes; they are taken literally")
    return Secret(key)


def _exposed(file: Path) -> FilePermissionWarning | None:
    """Warn if every user can read the file. Access for a group may be intended."""
    if not everyone_can(0o004, file):
        return None
    mode = file.stat().st_mode & 0o777
    message = f"every user of this machine can read the file with the client key (mode {mode:03o})"
    return FilePermissionWarning(message, "chmod 600 it")


def _missing_key(account: str, environment: Environment, config: ConfigFile) -> UsageError:
    import difflib

    similar = difflib.get_close_matches(GENERAL_VARIABLE, environment.environ, n=1, cutoff=0.75)
    misspelt = f" ({similar[0]} is set, but is not a variable this program reads)" if similar else ""
    others = f"; {config.path} has accounts: {', '.join(config.accounts)} (--account NAME)" if config.accounts else ""
    return UsageError(
        f"account {account!r} has no client key{misspelt}{others}",
        f"export {GENERAL_VARIABLE}=..., or {GENERAL_FILE_VARIABLE}=PATH of a file that contains it, or set "
        f'{KEY_FILE} = "PATH" under [accounts.{account}] in {CONFIG_NAME}; `anticaptcha-etl demo` needs no key',
    )
