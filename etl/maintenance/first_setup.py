"""Set up an account: check its key, write the configuration, say how to run a sync every night."""

import json
import os
import shlex
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from typing import NamedTuple

from etl.clock import Clock
from etl.errors import AccountRejectedError, UsageError
from etl.extract import protocol
from etl.extract.client import Client
from etl.extract.rate_limit import RateLimiter
from etl.models import TOTAL, ErrorScope, Window
from etl.responses import ApiError, SuccessPayload
from etl.secret import Secret

_SYSTEMD = Path("/run/systemd/system")
"""Exists on machines that systemd started, see sd_booted(3)."""

_UNITS = """mkdir -p ~/.config/systemd/user
cat > ~/.config/systemd/user/anticaptcha-etl.service <<'END'
[Service]
Type=oneshot
WorkingDirectory={folder}
ExecStart={program} --config {config} sync --quiet
END
cat > ~/.config/systemd/user/anticaptcha-etl.timer <<'END'
[Timer]
OnCalendar=*-*-* 03:15:00 UTC
Persistent=true
[Install]
WantedBy=timers.target
END
systemctl --user daemon-reload
systemctl --user enable --now anticaptcha-etl.timer
loginctl enable-linger"""


class Answers(NamedTuple):
    """What ``init`` asks for. ``more``: other settings to write."""

    account: str
    warehouse: str
    timezone: str
    key: Secret
    more: Mapping[str, str]


def _no_jitter() -> float:
    """For retries, and the one request is not retried."""
    return 0.0


def local_zone() -> str:
    """The time zone of this machine, if it can be found out; else UTC."""
    _, found, name = os.path.realpath("/etc/localtime").partition("zoneinfo/")
    return name if found and name not in ("Etc/UTC", "Etc/UCT", "UCT", "Universal", "Zulu") else "UTC"


def check_key(api_url: str, answers: Answers, clock: Clock) -> str:
    """Send one request, for today's total, and return what it showed.

    Raises AccountRejectedError if the API refuses the key, UsageError if it cannot be reached.
    """
    today = datetime.combine(clock.now().astimezone(UTC).date(), time(), UTC)
    window = Window(answers.account, TOTAL, today.date(), today, today + timedelta(days=1))
    with Client(api_url, answers.key, RateLimiter(0, clock), clock, _no_jitter) as client:
        reply = client.fetch_once(window).response.reply
    match reply:
        case SuccessPayload():
            return "The API accepts the key."
        case ApiError(code, description, ErrorScope.ACCOUNT):
            message = f"the API refuses the key: {code} {description}".strip()
            raise AccountRejectedError(message, protocol.ACCOUNT_ERRORS.get(code, "check the key"))
        case ApiError(code, description):
            return f"The API did not refuse the key, but answered with an error: {code} {description}".strip()
        case _:
            raise UsageError(f"the key was not checked: {reply.reason}", "check the network, or use --no-check")


def write_files(config: Path, key_file: Path, answers: Answers, mode: int) -> str | None:
    """Write both files or none; return a warning if others may read the key. Existing files are replaced."""
    lines = ["# Settings of anticaptcha-etl; `anticaptcha-etl config show` lists all of them."]
    if answers.account != "default":
        lines.append(f"account = {_toml(answers.account)}")
    settings = {"warehouse": answers.warehouse, "timezone": answers.timezone, **answers.more}
    lines += [f"{name} = {_toml(value)}" for name, value in settings.items()]
    relative = os.path.relpath(key_file, config.parent) if key_file.is_relative_to(config.parent) else str(key_file)
    lines += ["", f"[accounts.{_toml(answers.account)}]", f"client_key_file = {_toml(relative)}", ""]
    texts = {config: "\n".join(lines), key_file: answers.key.get_secret_value() + "\n"}
    temporary = {path: path.with_name(f".{path.name}.{os.getpid()}.part") for path in texts}
    try:
        for path, text in texts.items():
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(temporary[path], os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                file.write(text)
        if "://" not in answers.warehouse:  # a URL may contain a password
            with suppress(PermissionError):  # file systems without modes
                temporary[config].chmod(mode)
        for path in (key_file, config):
            temporary[path].replace(path)
    except OSError as error:
        hint = "choose another folder with --config and --key-file"
        raise UsageError(f"cannot write {error.filename}: {error.strerror}", hint) from error
    finally:
        for path in temporary.values():
            with suppress(OSError):
                path.unlink()
    if key_file.stat().st_mode & 0o077:
        return f"The file system of {key_file} ignores file modes: other users may read the key."
    return None


def _toml(text: str) -> str:
    """A TOML string: JSON's escapes are those of TOML, except that TOML has no surrogates."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")


def nightly_lines(program: str, config: Path) -> tuple[str, str]:
    """The scheduler of this machine, and what to do for a sync every night."""
    if _SYSTEMD.is_dir():
        names = {"folder": str(config.parent), "program": shlex.quote(program), "config": shlex.quote(str(config))}
        return "systemd", _UNITS.format(**{name: text.replace("%", "%%") for name, text in names.items()})
    command = shlex.join([program, "--config", str(config), "sync", "--quiet"]).replace("%", "\\%")
    return "cron (crontab -e)", f"15 3 * * * {command}"
