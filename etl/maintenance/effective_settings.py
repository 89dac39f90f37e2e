"""The settings of a command as they can be shown to anyone: where each comes from, and no passwords."""

from collections.abc import Iterator
from typing import NamedTuple
from urllib.parse import urlsplit

from etl.config import SETTINGS, Settings
from etl.errors import UsageError
from etl.warehouse import engine as warehouse


class EffectiveSetting(NamedTuple):
    """A setting's value and where it comes from."""

    name: str
    value: str
    source: str


def effective_settings(settings: Settings) -> Iterator[EffectiveSetting]:
    """Yield every setting. URLs may contain passwords, so only their host and path are shown."""
    try:
        warehouse_name = warehouse.name_of(warehouse.warehouse_url(settings.warehouse))
    except UsageError:
        warehouse_name = "invalid"
    shown = {
        "warehouse": warehouse_name,
        "api_url": without_password(settings.api_url),
        "lake": without_password(settings.lake) if settings.lake and "://" in settings.lake else "",
        "ping_url": "set" if settings.ping_url else "",
        "notify": f"{len(settings.notify)} set" if settings.notify else "",
        "since": "all" if settings.since_all else "",
    }
    for name in SETTINGS:
        value = getattr(settings, name)
        text = ", ".join(map(str, value)) if isinstance(value, tuple) else "" if value is None else str(value)
        yield EffectiveSetting(name, shown.get(name) or text, settings.sources[name])


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"
