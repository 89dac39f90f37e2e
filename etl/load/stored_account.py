"""What is stored of an account as a whole: its row, the statuses of members, what the API returns for unknown names."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, NamedTuple

from etl.models import Dimension, MemberStatus, SeriesKey, UnknownNameAnswer, UnknownNameBehaviour
from etl.warehouse.reading import Reader, from_db_utc


@dataclass(frozen=True, slots=True)
class Account:
    """An account. ``identity`` is the stored hash of its key, in hex. ``since`` comes from ``--since``;
    ``hour_offset_seconds``: see ``transform/parse.py``."""

    account_id: int
    name: str
    identity: str
    since: date | None
    hour_offset_seconds: int | None
    full_day_from_snapshot: int | None
    raw_since: date | None
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour]


class AccountTraits(NamedTuple):
    """What the first snapshots show about an account.

    ``hour_offset_seconds``: seconds past the full hour at which its hours begin. ``full_day_from_snapshot``: the
    first snapshot of a total that had a record for the last hour of its day.
    """

    hour_offset_seconds: int | None = None
    full_day_from_snapshot: int | None = None
    unknown_name_behaviours: Mapping[Dimension, UnknownNameBehaviour] = {}


class MemberStatusChange(NamedTuple):
    """A member's status from a moment on, and the snapshot that decided it (None: the user did)."""

    since: datetime
    series: SeriesKey
    member_status: MemberStatus
    snapshot: int | None


_ACCOUNT = "select * from internal.accounts where name = :name"

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


def account_row(reader: Reader, name: str) -> Any:
    """The row of the account ``name``; None if nothing was loaded for it."""
    return next(iter(reader.rows(_ACCOUNT, name=name)), None)


def account_of(reader: Reader, row: Any) -> Account:
    behaviours = load_unknown_name_behaviours(reader, row.account_id)
    return Account(
        account_id=row.account_id,
        name=row.name,
        identity=row.key_hash.hex(),
        since=row.since,
        hour_offset_seconds=row.hour_offset_seconds,
        full_day_from_snapshot=row.full_day_from_snapshot,
        raw_since=row.raw_kept_from,
        unknown_name_behaviours={dimension: behaviour for _, dimension, behaviour in behaviours},
    )


def find_account(reader: Reader, name: str) -> Account | None:
    """The account ``name``, whatever its key; None if nothing was loaded for it."""
    row = account_row(reader, name)
    return None if row is None else account_of(reader, row)


def load_member_statuses(reader: Reader, account_id: int) -> list[MemberStatusChange]:
    """All changes of members' statuses, oldest first."""
    return [
        MemberStatusChange(from_db_utc(at), SeriesKey(Dimension(dimension), member), MemberStatus(status), snapshot)
        for at, dimension, member, status, snapshot in reader.rows(_STATUSES, a=account_id)
    ]


def load_unknown_name_behaviours(
    reader: Reader, account_id: int
) -> list[tuple[datetime, Dimension, UnknownNameBehaviour]]:
    """Each behaviour and the time since when it applies, oldest first."""
    return [
        (from_db_utc(at), Dimension(dimension), UnknownNameBehaviour(UnknownNameAnswer(answer), code))
        for at, dimension, answer, code in reader.rows(_BEHAVIOURS, a=account_id)
    ]
