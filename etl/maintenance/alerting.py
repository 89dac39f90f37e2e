"""Evaluate an account's alert rules, store what began and ended, and deliver it."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from etl.clock import Clock
from etl.config import Settings
from etl.errors import AppError, WarehouseError
from etl.load import alerts
from etl.load.alerts import StoredAlert
from etl.load.lock import account_lock
from etl.load.stored_account import find_account
from etl.maintenance.delivery import DeliveryLog, Part, send
from etl.outputs.alerts.evaluate import find_events
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


_Message = tuple[StoredAlert, Part]


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
            unsent, going_on = alerts.unsent(connection, number), alerts.going_on(connection, number)
        messages = [message for alert in unsent for message in _parts(alert)]
        delivery_log = DeliveryLog(delivery_log_file(url, settings.account, settings.state_folder))
        delivered = _deliver(settings, messages, delivery_log)
        if delivered:
            with engine.begin() as connection:
                for alert, part in delivered:
                    alerts.mark_sent(connection, number, alert.alert_id, part, clock.now())
    found = (Alert(*one[1:5], from_db_utc(one.began_at), one.alert_id in begun) for one in going_on)
    return AlertsResult(settings.account, tuple(found), len(messages) - len(delivered))


def _require_current(url: str, settings: Settings, clock: Clock) -> None:
    """Raise WarehouseError if there is no current warehouse: opening it for writing would create one."""
    with open_for_reading(url, wait=settings.lock_wait, clock=clock) as reader:
        require_readable(reader)
        if state(reader) != "current":
            raise WarehouseError(
                f"{reader.name} is from another version of this program", "run anticaptcha-etl migrate"
            )


def _parts(alert: StoredAlert) -> list[_Message]:
    begin: list[_Message] = [] if alert.begin_sent_at else [(alert, "begin")]
    return [*begin, (alert, "end")] if alert.finished_at and not alert.end_sent_at else begin


def _deliver(settings: Settings, messages: Sequence[_Message], delivery_log: DeliveryLog) -> list[_Message]:
    """Send to each URL, in one message, what it has not received yet. Returns what all of them have received."""
    failed = set[_Message]()
    for place, url in enumerate(settings.notify):
        new = _undelivered(messages, delivery_log, place)
        if not new:
            continue
        count = f"{len(new)} alert{'' if len(new) == 1 else 's'}"
        try:
            is_sent = send(url, f"anticaptcha-etl, {settings.account}: {count}", "\n".join(map(_text, new)))
            problem = "the service did not accept it"
        except AppError as error:
            is_sent, problem = False, f"{error.message}; {error.hint}"
        except Exception as error:  # noqa: BLE001  # the data is loaded whatever happens here; the text may quote the URL
            is_sent, problem = False, type(error).__name__
        if is_sent:
            delivery_log.record([(_key(alert), part) for alert, part in new], place)
        else:
            failed.update(new)
            text = "alerts were not delivered to URL %d of notify: %s. The next run tries again"
            log.warning(text, place + 1, problem)
    return [message for message in messages if message not in failed]


def _undelivered(messages: Sequence[_Message], delivery_log: DeliveryLog, place: int) -> list[_Message]:
    """Those that a URL has not received yet, in order: an event may have ended and begun again meanwhile."""
    last, new = dict[str, str | None](), list[_Message]()
    for alert, part in messages:
        key = _key(alert)
        if last.setdefault(key, delivery_log.last(key, place)) != part:
            new.append((alert, part))
        last[key] = part
    return new


def _key(alert: StoredAlert) -> str:
    return f"{alert.rule}\t{alert.subject}"


def _text(message: _Message) -> str:
    alert, part = message
    return alert.message if part == "begin" else f"ended: {alert.message}"
