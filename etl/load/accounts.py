"""Accounts of a warehouse: which key each belongs to, and what is remembered about it."""

import hashlib
import secrets
import threading
from dataclasses import replace
from datetime import date, datetime

from sqlalchemy import Connection, Engine, text

from etl.errors import UsageError
from etl.load import stored_account
from etl.load.rows import to_db_utc
from etl.load.stored_account import Account, account_of, account_row
from etl.secret import Secret
from etl.warehouse.engine import lock_schema_changes
from etl.warehouse.reading import from_db_utc, reader_of

_new_accounts = threading.Lock()
"""Threads of this process create accounts one after the other; other processes wait for a lock of the database."""

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
    reader = reader_of(connection)
    with connection.begin():
        row = account_row(reader, name)
        if row is not None and secrets.compare_digest(hash_key(key, row.key_salt), row.key_hash):
            return account_of(reader, row)
    with _new_accounts, connection.begin():
        lock_schema_changes(connection)  # otherwise numbers or keys could be used twice
        row = account_row(reader, name)
        if row is not None and not key_changed and _has_history(connection, row.account_id):
            raise UsageError(
                f"account {name} was loaded with another key; no requests were sent",
                "use --account NAME for the account of this key, or --key-changed if you rotated the key",
            )
        update = "update internal.accounts set key_salt = :salt, key_hash = :hash where name = :name"
        params = {"name": name, "now": to_db_utc(now), **_salt_and_hash(connection, name, key)}
        connection.execute(text(_INSERT_ACCOUNT if row is None else update), params)
        return account_of(reader, account_row(reader, name))


def find_account(engine: Engine, name: str) -> Account | None:
    """See ``stored_account.find_account``."""
    with engine.connect() as connection:
        return stored_account.find_account(reader_of(connection), name)


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
    others = connection.execute(text("select * from internal.accounts where name <> :name"), {"name": name})
    hashes: dict[bytes, bytes] = {}
    for row in others:
        salt = row.key_salt
        if salt not in hashes:
            hashes[salt] = hash_key(key, salt)
        if hashes[salt] == row.key_hash:
            raise UsageError(
                f"this key belongs to account {row.name}, not to {name}; its money would count twice",
                f"use --account {row.name}, or give {name} its own key",
            )
    salt = max(hashes, default=secrets.token_bytes(16))  # reuse a salt, so that the next new account costs one hash
    return {"salt": salt, "hash": hashes.get(salt) or hash_key(key, salt)}


def _has_history(connection: Connection, account_id: int) -> bool:
    sql = "select count(*) > 0 from internal.snapshots where account_id = :a and outcome = 'success'"
    return bool(connection.execute(text(sql), {"a": account_id}).scalar_one())
