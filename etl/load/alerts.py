"""The events of alert rules in the warehouse: each begins once and ends once."""

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

import sqlalchemy as sa

from etl.events import Event
from etl.load.rows import to_db_utc

_OPEN = "select alert_id, rule, subject from internal.alerts where account_id = :a and ended_at is null"
_NEXT = "select coalesce(max(alert_id), 0) + 1 from internal.alerts where account_id = :a"
_INSERT = """
    insert into internal.alerts (account_id, alert_id, kind, rule, subject, message, began_at)
    values (:a, :id, :kind, :rule, :subject, :message, :now)
"""
_END = "update internal.alerts set ended_at = :now where account_id = :a and alert_id = :id"
_ALERTS = """
    select alert_id, kind, rule, subject, message, began_at, ended_at as finished_at, begin_sent_at, end_sent_at
      from internal.alerts
     where account_id = :a and {}
     order by alert_id
"""
_CURRENT = _ALERTS.format("(ended_at is null or begin_sent_at is null or end_sent_at is null)")
_BEGINNINGS = "select rule, subject, began_at from internal.alerts where account_id = :a"
_SENT = {
    "begin": "update internal.alerts set begin_sent_at = :now where account_id = :a and alert_id = :id",
    "end": "update internal.alerts set end_sent_at = :now where account_id = :a and alert_id = :id",
}


class StoredAlert(NamedTuple):
    """A row of ``internal.alerts``; times are UTC without a zone."""

    alert_id: int
    kind: str
    rule: str
    subject: str
    message: str
    began_at: datetime
    finished_at: datetime | None
    begin_sent_at: datetime | None
    end_sent_at: datetime | None

    @property
    def key(self) -> str:
        return key_of(self.rule, self.subject)


def key_of(rule: str, subject: str) -> str:
    """What stays the same when an event begins again."""
    return f"{rule}\t{subject}"


def update(connection: sa.Connection, account_id: int, events: Sequence[Event], now: datetime) -> set[int]:
    """Begin events that are not stored, and end stored ones that no longer go on. The caller commits.

    Returns the numbers of those that began.
    """
    going_on = {(event.rule, event.subject): event for event in events}
    at = to_db_utc(now)
    stored = {
        (rule, subject): number for number, rule, subject in connection.execute(sa.text(_OPEN), {"a": account_id})
    }
    for key, number in stored.items():
        if key not in going_on:
            connection.execute(sa.text(_END), {"a": account_id, "id": number, "now": at})
    first = connection.execute(sa.text(_NEXT), {"a": account_id}).scalar_one()
    new = dict(enumerate((event for key, event in going_on.items() if key not in stored), first))
    for number, event in new.items():
        connection.execute(sa.text(_INSERT), {"a": account_id, "id": number, "now": at, **event._asdict()})
    return {*new}


def current(connection: sa.Connection, account_id: int) -> list[StoredAlert]:
    """The events that go on, and those whose begin or end is not delivered yet."""
    return [StoredAlert(*row) for row in connection.execute(sa.text(_CURRENT), {"a": account_id})]


def beginnings(connection: sa.Connection, account_id: int) -> set[tuple[str, str]]:
    """Every event that is stored: its key and when it began."""
    rows = connection.execute(sa.text(_BEGINNINGS), {"a": account_id})
    return {(key_of(rule, subject), began_at.isoformat()) for rule, subject, began_at in rows}


def mark_sent(connection: sa.Connection, account_id: int, alert_id: int, part: str, now: datetime) -> None:
    """Note that the ``begin`` or the ``end`` of an event was delivered. The caller commits."""
    connection.execute(sa.text(_SENT[part]), {"a": account_id, "id": alert_id, "now": to_db_utc(now)})
