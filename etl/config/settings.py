"""The table of settings: names, types, defaults."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import date
from pathlib import Path
from types import MappingProxyType

from etl.config import values
from etl.config.alert_rules import AlertRule
from etl.config.environment import PREFIX
from etl.config.permissions import FilePermissionWarning
from etl.config.values import Shard
from etl.secret import Secret

DEFAULT_ACCOUNT = "default"


@dataclass(frozen=True, slots=True)
class Setting:
    """How a setting is written and read: ``--a-b`` as an option, ``ANTICAPTCHA_A_B`` as a variable, ``a_b`` in TOML."""

    name: str
    read: Callable[[object], object]
    default: object = None
    option: str = ""
    """Name of the option if it differs: ``queue`` for ``queues``, because the option is repeated."""
    old_name: str = ""
    """Former name, still accepted everywhere."""
    per_account: bool = True
    command: str = "sync"
    """A command whose help describes the setting; empty if it is not an option."""

    @property
    def names(self) -> tuple[str, ...]:
        """Every name that variables and the TOML file may use."""
        return tuple(filter(None, (self.name, self.option, self.old_name)))

    @property
    def flag(self) -> str:
        return _flag(self.option or self.name)

    @property
    def old_flag(self) -> str:
        return _flag(self.old_name)

    @property
    def variable(self) -> str:
        return variable(self.option or self.name)


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


def variable(name: str) -> str:
    return PREFIX + name.upper()


def _setting(read: Callable[[object], object], default: object = None, **details: object) -> dict[str, object]:
    return {"read": read, "default": default, **details}


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Checked values of all settings for one command. Days are inclusive UTC days."""

    account: str = field(metadata=_setting(values.name, DEFAULT_ACCOUNT, per_account=False))
    api_url: str = field(metadata=_setting(values.api_url, "https://api.anti-captcha.com", command=""))
    warehouse: str = field(repr=False, metadata=_setting(values.text, "warehouse.duckdb"))
    """SQLAlchemy URL. Not in the repr: it may contain a password."""
    since: date | None = field(metadata=_setting(values.day_or_all))
    """None if it is not set, and for ``all``; see ``since_all``."""
    until: date | None = field(metadata=_setting(values.day))
    queues: tuple[str, ...] = field(metadata=_setting(values.several(values.text), (), option="queue"))
    soft_ids: tuple[str, ...] = field(metadata=_setting(values.several(values.soft_id), (), option="soft_id"))
    """Digits."""
    ips: tuple[str, ...] = field(metadata=_setting(values.several(values.ip), (), option="ip"))
    """Canonical addresses."""
    trusted_queues: tuple[str, ...] = field(metadata=_setting(values.several(values.text), (), command=""))
    trusted_soft_ids: tuple[str, ...] = field(metadata=_setting(values.several(values.soft_id), (), command=""))
    trusted_ips: tuple[str, ...] = field(metadata=_setting(values.several(values.ip), (), command=""))
    lookback: int = field(metadata=_setting(values.whole_number(0, 365, "days"), 3))
    empty_days: int = field(metadata=_setting(values.whole_number(1, 3650, "days"), 90))
    concurrency: int = field(metadata=_setting(values.whole_number(1, 64, "requests at once"), 4))
    rate: float = field(metadata=_setting(values.number_of("requests per second"), 5.0))
    """Requests per second; 0 = no limit."""
    spot_checks: int = field(metadata=_setting(values.whole_number(0, 1000, "days"), 2))
    """Final days that each sync reads again."""
    balance: bool = field(metadata=_setting(values.boolean, True, command=""))
    """Read the account's balance with each sync."""
    raw_retention_days: int | None = field(
        metadata=_setting(values.whole_number(31, None, "days"), old_name="keep_answers")
    )
    """Days to keep raw responses; None: for ever."""
    max_requests: int | None = field(metadata=_setting(values.whole_number(1, None, "requests")))
    totals_only: bool = field(metadata=_setting(values.boolean, False))
    key_changed: bool = field(metadata=_setting(values.boolean, False))
    max_age: float | None = field(metadata=_setting(values.number_of("hours"), command="status"))
    """Hours."""
    checks_folder: Path | None = field(metadata=_setting(values.text, command="check"))
    publish: Path | None = field(metadata=_setting(values.text, per_account=False, command=""))
    lake: str | None = field(metadata=_setting(values.text, per_account=False, command="lake push"))
    """A URL, or an absolute path."""
    state_folder: Path = field(metadata=_setting(values.text, per_account=False))
    lock_wait: float = field(metadata=_setting(values.number_of("seconds"), 60.0))
    """Seconds."""
    ping_url: Secret | None = field(metadata=_setting(values.ping_url, command=""))
    notify: tuple[Secret, ...] = field(metadata=_setting(values.several(values.notify_url), (), command=""))
    """Where alerts are delivered to: URLs of apprise."""
    timezone: str = field(metadata=_setting(values.timezone, "UTC", command="report"))
    """IANA name of the time zone whose days people see."""
    quiet: bool = field(metadata=_setting(values.boolean, False))
    verbose: bool = field(metadata=_setting(values.boolean, False))
    log_format: str = field(metadata=_setting(values.log_format, "text"))
    accounts_at_once: int = field(metadata=_setting(values.whole_number(1, 64, "accounts"), 8, per_account=False))
    """Used with ``--all`` only, like ``shard``."""
    shard: Shard | None = field(metadata=_setting(values.shard, per_account=False))

    alerts: tuple[AlertRule, ...]
    """The rules for this account."""
    since_all: bool
    """True if ``since`` is ``all``."""
    key: Secret | None
    """The client key; None unless the command needs it."""
    sources: Mapping[str, str] = field(repr=False)
    """Where each value comes from: an option, a variable, a key of the TOML file, or ``default``."""
    ignored: tuple[str, ...]
    """Warnings about variables that look like settings but are not."""
    exposed: FilePermissionWarning | None
    """Set if every user of this machine can read the file with the client key."""


SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {one.name: Setting(one.name, **one.metadata) for one in fields(Settings) if one.metadata}
)
SETTING_BY_NAME: Mapping[str, Setting] = MappingProxyType(
    {name: setting for setting in SETTINGS.values() for name in setting.names}
)
"""Settings by each of their names."""
