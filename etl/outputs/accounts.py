"""Whose numbers are asked for."""

import sqlalchemy as sa

from etl.errors import UsageError
from etl.warehouse.schema import accounts


def chosen(connection: sa.Connection, account: str | None) -> dict[str, int]:
    """Names and numbers of the accounts that are meant: the one asked for, with None all that are held, in the names' order.

    Raises UsageError for an account that the warehouse does not hold.
    """
    rows = connection.execute(sa.select(accounts.c.name, accounts.c.account_id).order_by(accounts.c.name))
    held = {row.name: row.account_id for row in rows}
    if account is None:
        return held
    if account not in held:
        raise UsageError(f"the warehouse holds no account {account!r}", f"it holds: {', '.join(held) or 'none'}")
    return {account: held[account]}
