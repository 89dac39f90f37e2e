"""The only place that reads the time or sleeps; everything else is given a ``Clock``."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime


def _now() -> datetime:
    return datetime.now(UTC)


@dataclass(frozen=True, slots=True)
class Clock:
    """``now``: wall time, aware UTC. ``monotonic``: seconds that never go backward. ``sleep``: takes seconds."""

    now: Callable[[], datetime] = _now
    monotonic: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep  # noqa: TID251  # the one place
