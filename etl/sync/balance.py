"""Read what is left on the account, once per sync."""

from datetime import datetime, timedelta

from etl.extract.client import Client
from etl.load.state import SyncStateStore
from etl.models import Finding, Severity
from etl.responses import ApiError, Balance
from etl.sync.findings import Findings

MIN_INTERVAL = timedelta(seconds=30)
"""The vendor asks for at most one request of the balance in this time."""


def read_balance(client: Client, store: SyncStateStore, findings: Findings, now: datetime) -> None:
    """Store the balance, unless it was just read. A failure is a warning, because no spending depends on it."""
    last = store.balance_read_at()
    if last is not None and timedelta(0) <= now - last < MIN_INTERVAL:
        return
    read_at, reply = client.fetch_balance()
    if isinstance(reply, Balance):
        store.add_balance(read_at, reply.money, reply.captcha_credits)
        return
    problem = f"{reply.code} {reply.description}" if isinstance(reply, ApiError) else getattr(reply, "reason", "")
    message = (
        f"the balance could not be read ({problem}); spending does not depend on it. balance = false in the "
        "configuration file turns this off"
    )
    findings.add(Finding("the balance was read", Severity.WARNING, message))
