"""What is known about names: the status of each member, and what the API returns for names that do not exist."""

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Connection, text

from etl.load.rows import Row, from_db_utc, insert, to_db_utc
from etl.models import Dimension, MemberStatus, SeriesKey, UnknownNameAnswer, UnknownNameBehaviour
from etl.warehouse import schema


class MemberStatusChange(NamedTuple):
    """A member's status from a moment on, and the snapshot that decided it (None: the user did)."""

    since: datetime
    series: SeriesKey
    member_status: MemberStatus
    snapshot: int | None


_STATUSES = """
    select valid_from, dimension, member, status, snapshot_id
      from internal.member_statuses
     where account_id = :a
     order by valid_from, snapshot_id nulls first
"""

_BEHAVIOURS = """
    select valid_from, dimension, behaviour, code
      from internal.unknown_name_behaviours
     where account_id = :a
     order by valid_from
"""


def load_member_statuses(connection: Connection, account_id: int) -> list[MemberStatusChange]:
    """All changes of members' statuses, oldest first."""
    return [
        MemberStatusChange(from_db_utc(at), SeriesKey(Dimension(dimension), member), MemberStatus(status), snapshot)
        for at, dimension, member, status, snapshot in connection.execute(text(_STATUSES), {"a": account_id})
    ]


def write_member_statuses(
    connection: Connection, account_id: int, changes: Iterable[tuple[SeriesKey, MemberStatus, int | None]], at: datetime
) -> None:
    now = to_db_utc(at)
    rows: list[Row] = [
        (series.dimension.value, series.member, status.value, snapshot, now) for series, status, snapshot in changes
    ]
    insert(connection, schema.member_statuses, account_id, rows)


def load_unknown_name_behaviours(
    connection: Connection, account_id: int
) -> list[tuple[datetime, Dimension, UnknownNameBehaviour]]:
    """Each behaviour and the time since when it applies, oldest first."""
    return [
        (from_db_utc(at), Dimension(dimension), UnknownNameBehaviour(UnknownNameAnswer(answer), code))
        for at, dimension, answer, code in connection.execute(text(_BEHAVIOURS), {"a": account_id})
    ]


def write_unknown_name_behaviours(
    connection: Connection, account_id: int, behaviours: Mapping[Dimension, UnknownNameBehaviour], at: datetime
) -> None:
    """Insert the behaviours that differ from the stored ones."""
    stored = {dimension: item for _, dimension, item in load_unknown_name_behaviours(connection, account_id)}
    rows: list[Row] = [
        (dimension.value, item.answer.value, item.code, to_db_utc(at))
        for dimension, item in behaviours.items()
        if stored.get(dimension) != item
    ]
    insert(connection, schema.unknown_name_behaviours, account_id, rows)
