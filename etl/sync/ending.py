"""Say why a sync stopped early."""

from etl.errors import AccountRejectedError
from etl.extract import planner, protocol
from etl.models import Snapshot


def account_rejected(refusal: Snapshot | None, account: str, requests: int) -> AccountRejectedError:
    """Return the error for an account that the API refused."""
    cause = f"{refusal.window}: {refusal.code} {refusal.message}".strip() if refusal else account
    code = refusal.code if refusal else ""
    return AccountRejectedError(
        f"the API refused the account: {cause}; requests made: {requests}. Stored values are kept.",
        protocol.ACCOUNT_ERROR_HINTS.get(code, "fix the account first; nothing is retried"),
    )


def stop_messages(stop_reason: planner.StopReason, state: planner.PlannerState) -> tuple[str, ...]:
    """Return lines for the summary of a run that stopped before everything was requested."""
    if stop_reason is planner.StopReason.TOO_MANY_FAILURES and state.stopped_by:
        code = state.stopped_by.code
        return (f"stopped: too many windows in a row failed, the last with {code}; run it again later to continue",)
    if stop_reason is planner.StopReason.LIMIT:
        return (f"stopped at --max-requests {state.options.max_requests}; run again to continue",)
    return ()
