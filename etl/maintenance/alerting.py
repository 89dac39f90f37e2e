"""Evaluate an account's alert rules, store what began and ended, and deliver it."""

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from etl.clock import Clock
from etl.config import Settings
from etl.errors import AppError, WarehouseError
from etl.load import alerts
from etl.load.alerts import StoredAlert
from etl.load.lock import account_lock
from etl.load.stored_account import find_account
from etl.maintenance.delivery import Delivered, DeliveryLog, Part, send
from etl.outputs.alerts.evaluate import find_events
from etl.secret import Secret
from etl.warehouse.account_files import delivery_log_file
from etl.warehouse.engine import open_warehouse, warehouse_url
from etl.warehouse.migrate import require_readable, state
from etl.warehouse.reading import from_db_utc, open_for_reading, reader_of

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Alert:
    """An event that goes on; ``is_new`` if it began with this evaluation."""

    kind: str
    rule: str
    subject: str
    message: str
    began_at: datetime
    is_new: bool


@dataclass(frozen=True, slots=True)
class AlertsResult:
    """``undelivered``: messages that the next run tries again."""

    account: str
    alerts: tuple[Alert, ...] = ()
    undelivered: int = 0


def run_alerts(settings: Settings, clock: Clock) -> AlertsResult:
    """Evaluate the rules and deliver what is new. Raises WarehouseError; a failed delivery is only logged."""
    url = warehouse_url(settings.warehouse)
    _require_current(url, settings, clock)
    with account_lock(url, settings.account, clock, wait=settings.lock_wait):
        engine = open_warehouse(url, wait=settings.lock_wait, clock=clock)
        with engine.begin() as connection:
            reader = reader_of(connection)
            account = find_account(reader, settings.account)
            if account is None:
                return AlertsResult(settings.account)
            number, now = account.account_id, clock.now()
            events = find_events(reader, number, settings.account, settings.alerts, now, settings.timezone)
            begun = alerts.update(connection, number, events, now)
            current, stored = alerts.current(connection, number), alerts.beginnings(connection, number)
        delivery_log = DeliveryLog(delivery_log_file(url, settings.account, settings.state_folder))
        sent, undelivered = _deliver(settings, current, stored, delivery_log)
        if sent:
            with engine.begin() as connection:
                for alert, part in sent:
                    alerts.mark_sent(connection, number, alert.alert_id, part, clock.now())
    going_on = (one for one in current if one.finished_at is None)
    found = (Alert(*one[1:5], from_db_utc(one.began_at), one.alert_id in begun) for one in going_on)
    return AlertsResult(settings.account, tuple(found), undelivered)


def _require_current(url: str, settings: Settings, clock: Clock) -> None:
    """Raise WarehouseError if there is no current warehouse: opening it for writing would create one."""
    with open_for_reading(url, wait=settings.lock_wait, clock=clock) as reader:
        require_readable(reader)
        if state(reader) != "current":
            raise WarehouseError(
                f"{reader.name} is from another version of this program", "run anticaptcha-etl migrate"
            )


def _deliver(
    settings: Settings, current: Sequence[StoredAlert], stored: set[tuple[str, str]], delivery_log: DeliveryLog
) -> tuple[list[tuple[StoredAlert, Part]], int]:
    """Send to each URL, in one message, what it has not received yet.

    Returns what all of them have received now and the warehouse does not know of, and the number of messages that some
    URL has not received.
    """
    failed = set[tuple[str, Delivered]]()
    for place, url in enumerate(settings.notify):
        new = list(_new_messages(delivery_log.at(place), current, stored))
        if not new:
            continue
        count = f"{len(new)} alert{'' if len(new) == 1 else 's'}"
        problem = _send(url, f"anticaptcha-etl, {settings.account}: {count}", "\n".join(map(_text, new)))
        if problem is None:
            delivery_log.record(new, place)
        else:
            failed.update(new)
            text = "alerts were not delivered to URL %d of notify: %s. The next run tries again"
            log.warning(text, place + 1, problem)
    sent = [
        (alert, part)
        for alert in current
        for part in _unsent_parts(alert)
        if (alert.key, _message(alert, part)) not in failed
    ]
    return sent, len(failed)


def _send(url: Secret, title: str, body: str) -> str | None:
    """Send one message; return what went wrong."""
    try:
        return None if send(url, title, body) else "the service did not accept it"
    except AppError as error:
        return f"{error.message}; {error.hint}"
    except Exception as error:  # noqa: BLE001  # the data is loaded whatever happens here; the text may quote the URL
        return type(error).__name__


def _new_messages(
    delivered: dict[str, Delivered], current: Sequence[StoredAlert], stored: set[tuple[str, str]]
) -> Iterator[tuple[str, Delivered]]:
    """What must be sent to a URL. ``delivered``: the last message it received of each event.

    Events that were delivered may be missing, if the warehouse is an older copy. Older ones of the same key were
    delivered before them. A missing event that had not ended is the same as one that goes on now, or it has ended.
    """
    latest = dict(delivered)
    for alert in current:
        last, began_at = latest.get(alert.key), alert.began_at.isoformat()
        is_missing = last is not None and (alert.key, last.began_at) not in stored
        is_before = last is not None and is_missing and last.began_at > began_at
        if is_before and alert.finished_at:
            continue
        is_same = last and (last.began_at == began_at or is_before or (is_missing and last.part == "begin"))
        last_part = last.part if last and is_same else None
        if (last_part is None and not alert.begin_sent_at) or (last_part == "end" and not alert.finished_at):
            yield alert.key, _message(alert, "begin")
        if last_part != "end" and alert.finished_at and not alert.end_sent_at:
            yield alert.key, _message(alert, "end")
        latest[alert.key] = _message(alert, "end" if alert.finished_at else "begin")
    for key, last in latest.items():
        if last.part == "begin" and (key, last.began_at) not in stored:
            yield key, last._replace(part="end")


def _unsent_parts(alert: StoredAlert) -> Iterator[Part]:
    if not alert.begin_sent_at:
        yield "begin"
    if alert.finished_at and not alert.end_sent_at:
        yield "end"


def _message(alert: StoredAlert, part: Part) -> Delivered:
    return Delivered(part, alert.began_at.isoformat(), alert.message)


def _text(message: tuple[str, Delivered]) -> str:
    _, one = message
    return one.message if one.part == "begin" else f"ended: {one.message}"
