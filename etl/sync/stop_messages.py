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
        protocol.ACCOUNT_ERRORS.get(code, "fix the account first; nothing is retried"),
    )


def stop_messages(
    stop_reason: planner.StopReason, state: planner.PlannerState, first_failure: Snapshot | None
) -> tuple[str, ...]:
    """Return lines for the summary: why windows failed, and why the run stopped before everything was requested."""
    messages = []
    if first_failure:
        problem = ": ".join(filter(None, (first_failure.code, first_failure.message)))
        messages.append(f"first failure: {first_failure.window}: {problem}")
    if stop_reason is planner.StopReason.TOO_MANY_FAILURES:
        messages.append("stopped: too many windows in a row failed; anticaptcha-etl doctor checks the connection")
    if stop_reason is planner.StopReason.LIMIT:
        messages.append(f"stopped at --max-requests {state.options.max_requests}; run again to continue")
    return tuple(messages)
