"""Deliver alerts through apprise. Its URLs are secrets, so they and apprise's own messages are not logged."""

import json
import logging
import os
import warnings
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Literal, NamedTuple

from etl.errors import UsageError, WarehouseError
from etl.secret import Secret

Part = Literal["begin", "end"]

INSTALL = "pip install 'anticaptcha-etl[notify]'"
MAX_REMEMBERED = 2_000
"""Events; the oldest are forgotten."""


def send(url: Secret, title: str, body: str) -> bool:
    """Send one message; False if it was not accepted. Raises UsageError without apprise or for an unusable URL."""
    try:
        import apprise
    except ImportError as error:
        raise UsageError("notify needs a package that is not installed: apprise", INSTALL) from error
    logging.getLogger("apprise").disabled = True
    service = apprise.Apprise()
    with warnings.catch_warnings(action="ignore"):  # of apprise's own code
        if not service.add(url.get_secret_value()):
            raise UsageError("a URL of notify is not one that apprise knows", "compare it with its list of services")
        return bool(service.notify(title=title, body=body, body_format=apprise.NotifyFormat.TEXT))


class Delivered(NamedTuple):
    """What was delivered last of an event; ``began_at`` as the warehouse has it, in ISO 8601."""

    part: Part
    began_at: str
    message: str


class DeliveryLog:
    """What was delivered last of each event, by event and place of the URL in the settings.

    It is a file of its own, so that an older copy of the warehouse does not deliver again.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._delivered: dict[str, dict[str, Delivered]] = {}
        with suppress(OSError, ValueError, TypeError, AttributeError):  # none yet, or damaged: may deliver twice
            for key, places in json.loads(path.read_text("utf-8")).items():
                known = {place: Delivered(*one) for place, one in places.items() if isinstance(one, list)}
                self._delivered[key] = known

    def at(self, place: int) -> dict[str, Delivered]:
        """What was delivered last to a URL, by event."""
        return {key: places[str(place)] for key, places in self._delivered.items() if str(place) in places}

    def record(self, delivered: Sequence[tuple[str, Delivered]], place: int) -> None:
        """Store that the events were delivered. Raises WarehouseError."""
        for key, one in delivered:
            self._delivered[key] = {**self._delivered.pop(key, {}), str(place): one}
        newest = dict(list(self._delivered.items())[-MAX_REMEMBERED:])
        temporary = self._path.with_name(f"{self._path.name}.part")
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(newest, file)
            temporary.replace(self._path)
        except OSError as error:
            message = f"alerts were delivered, but {self._path} cannot be written: {error.strerror}"
            hint = "free disk space or make its folder writable; until then each run delivers them again"
            raise WarehouseError(message, hint) from error
