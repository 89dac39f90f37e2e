"""The services that alerts are delivered to, and what must be true of deliveries: each event is told once."""

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

from etl.maintenance.alerting import AlertsResult
from etl.maintenance.delivery import Delivered
from etl.secret import Secret
from tests.simulator.invariants import require
from tests.simulator.stores import URLS


class Deliveries:
    """Receives messages. ``down``: places of URLs that accept none."""

    def __init__(self) -> None:
        self.down: frozenset[int] = frozenset()
        self.counts: Counter[str] = Counter()
        self._last: dict[tuple[int, str], str] = {}
        self._sent: set[tuple[int, str, str]] = set()
        """Received, and not yet recorded by the program: after a kill it may send them again."""
        self._problems: list[str] = []

    def text(self, message: tuple[str, Delivered]) -> str:
        """What a message is in a life: the event and its part."""
        return json.dumps([message[0], message[1].part])

    def send(self, url: Secret, title: str, body: str) -> bool:
        place = int(url.get_secret_value())
        if place in self.down:
            self.counts["refused"] += 1
            return False
        for key, part in map(json.loads, body.splitlines()):
            last = self._last.get((place, key), "end")
            if last == part and (place, key, part) not in self._sent:
                self._problems.append(f"URL {place} was told the {part} of {key!r} after its {last}")
            self.counts["told again after a kill" if last == part else part] += 1
            self._last[place, key] = part
            self._sent.add((place, key, part))
        return True

    def recording(self, original: Any) -> Any:
        """What the program's record of deliveries is in a life."""

        def record(log: Any, delivered: Sequence[tuple[str, Delivered]], place: int) -> None:
            original(log, delivered, place)
            self._sent -= {(place, key, one.part) for key, one in delivered}

        return record

    def check(self, result: AlertsResult | None) -> None:
        """``result``: of an evaluation that came to its end."""
        require(not self._problems, "events are told once", "; ".join(self._problems))
        if result is None:
            return
        going_on = {f"{alert.rule}\t{alert.subject}" for alert in result.alerts}
        for place in range(len(URLS)):
            if place not in self.down:
                delivered = {key for (at, key), part in self._last.items() if at == place and part == "begin"}
                require(delivered == going_on, "what goes on is told", f"URL {place}: delivered {delivered}, going on {going_on}")
                require(not result.undelivered or self.down, "messages are delivered", f"{result.undelivered} are not")
