"""Accounts of a warehouse: which key each belongs to, and what is remembered about it."""

import hashlib
import secrets
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import date, datetime

from sqlalchemy import Connection, Engine, RowMapping, text

from etl.errors import UsageError
from etl.load.member_statuses import load_unknown_name_behaviours
from etl.load.rows import from_db_utc, to_db_utc
from etl.models import Dimension, UnknownNameBehaviour
from etl.secret import Secret
from etl.warehouse.engine import lock_schema_changes


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


_new_accounts = threading.Lock()
"""Threads of this process create accounts one after the other; other processes wait for a lock of the database."""

_SELECT_ACCOUNT = "select * from internal.accounts where name = :name"

_LAST_COMPLETED = """
    select a.name, max(r.ended_at)
      from internal.runs     as r
      join internal.accounts as a on a.account_id = r.account_id
     where r.command = 'sync' and r.exit_code in (0, 1, 5)
     group by a.name
"""

_INSERT_ACCOUNT = """
    insert into internal.accounts (account_id, name, key_salt, key_hash, created_at)
    select coalesce(max(account_id), 0) + 1, :name, :salt, :hash, :now from internal.accounts
"""


def open_account(connection: Connection, name: str, key: Secret, now: datetime, key_changed: bool = False) -> Account:
    """The account ``name``, created if it is new.

    Raises UsageError if the account was loaded with another key, or if the key belongs to another account.
    """
    with connection.begin():
        row = _row(connection, name)
        if row is not None and secrets.compare_digest(hash_key(key, bytes(row["key_salt"])), bytes(row["key_hash"])):
            return _account(connection, row)
    with _new_accounts, connection.begin():
        lock_schema_changes(connection)  # otherwise numbers or keys could be used twice
        row = _row(connection, name)
        if row is not None and not key_changed and _has_history(connection, row["account_id"]):
            raise UsageError(
                f"account {name} was loaded with another key; no requests were sent",
                "use --account NAME for the account of this key, or --key-changed if you rotated the key",
            )
        update = "update internal.accounts set key_salt = :salt, key_hash = :hash where name = :name"
        params = {"name": name, "now": to_db_utc(now), **_salt_and_hash(connection, name, key)}
        connection.execute(text(_INSERT_ACCOUNT if row is None else update), params)
        return _account(connection, connection.execute(text(_SELECT_ACCOUNT), {"name": name}).mappings().one())


def find_account(engine: Engine, name: str) -> Account | None:
    """The account ``name``, whatever its key; None if nothing was loaded for it."""
    with engine.connect() as connection:
        row = _row(connection, name)
        return None if row is None else _account(connection, row)


def last_completed_syncs(engine: Engine) -> dict[str, datetime]:
    """When each account's last completed sync ended; accounts without one are left out."""
    with engine.connect() as connection:
        return {name: from_db_utc(at) for name, at in connection.execute(text(_LAST_COMPLETED))}


def save_since(connection: Connection, account: Account, since: date | None) -> Account:
    """Remember the first day to load; None: load everything."""
    with connection.begin():
        params = {"since": since, "a": account.account_id}
        connection.execute(text("update internal.accounts set since = :since where account_id = :a"), params)
    return replace(account, since=since)


def hash_key(key: Secret, salt: bytes) -> bytes:
    """scrypt is slow on purpose (about 50 ms), so that a stolen warehouse does not give the key away."""
    return hashlib.scrypt(key.get_secret_value().encode(), salt=salt, n=2**14, r=8, p=1)


def _salt_and_hash(connection: Connection, name: str, key: Secret) -> dict[str, bytes]:
    """Salt and hash for the key of account ``name``. Raises UsageError if another account has the key."""
    others = connection.execute(text("select * from internal.accounts where name <> :name"), {"name": name}).mappings()
    hashes: dict[bytes, bytes] = {}
    for row in others:
        salt = bytes(row["key_salt"])
        if salt not in hashes:
            hashes[salt] = hash_key(key, salt)
        if hashes[salt] == bytes(row["key_hash"]):
            raise UsageError(
                f"this key belongs to account {row['name']}, not to {name}; its money would count twice",
                f"use --account {row['name']}, or give {name} its own key",
            )
    salt = max(hashes, default=secrets.token_bytes(16))  # reuse a salt, so that the next new account costs one hash
    return {"salt": salt, "hash": hashes.get(salt) or hash_key(key, salt)}


def _has_history(connection: Connection, account_id: int) -> bool:
    sql = "select count(*) > 0 from internal.snapshots where account_id = :a and outcome = 'success'"
    return bool(connection.execute(text(sql), {"a": account_id}).scalar_one())


def _row(connection: Connection, name: str) -> RowMapping | None:
    return connection.execute(text(_SELECT_ACCOUNT), {"name": name}).mappings().one_or_none()


def _account(connection: Connection, row: RowMapping) -> Account:
    behaviours = load_unknown_name_behaviours(connection, row["account_id"])
    return Account(
        account_id=row["account_id"],
        name=row["name"],
        identity=bytes(row["key_hash"]).hex(),
        since=row["since"],
        hour_offset_seconds=row["hour_offset_seconds"],
        full_day_from_snapshot=row["full_day_from_snapshot"],
        raw_since=row["raw_kept_from"],
        unknown_name_behaviours={dimension: behaviour for _, dimension, behaviour in behaviours},
    )
