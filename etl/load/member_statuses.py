"""Write what is known about names: the status of each member, and what the API returns for names that do not exist."""

from collections.abc import Iterable, Mapping
from datetime import datetime

from sqlalchemy import Connection

from etl.load.rows import Row, insert, to_db_utc
from etl.load.stored_account import load_unknown_name_behaviours
from etl.models import Dimension, MemberStatus, SeriesKey, UnknownNameBehaviour
from etl.warehouse import schema
from etl.warehouse.reading import reader_of


def write_member_statuses(
    connection: Connection, account_id: int, changes: Iterable[tuple[SeriesKey, MemberStatus, int | None]], at: datetime
) -> None:
    now = to_db_utc(at)
    rows: list[Row] = [
        (series.dimension.value, series.member, status.value, snapshot, now) for series, status, snapshot in changes
    ]
    insert(connection, schema.member_statuses, account_id, rows)


def write_unknown_name_behaviours(
    connection: Connection, account_id: int, behaviours: Mapping[Dimension, UnknownNameBehaviour], at: datetime
) -> None:
    """Insert the behaviours that differ from the stored ones."""
    stored = {dimension: item for _, dimension, item in load_unknown_name_behaviours(reader_of(connection), account_id)}
    rows: list[Row] = [
        (dimension.value, item.answer.value, item.code, to_db_utc(at))
        for dimension, item in behaviours.items()
        if stored.get(dimension) != item
    ]
    insert(connection, schema.unknown_name_behaviours, account_id, rows)
