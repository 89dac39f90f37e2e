"""Log the result of each window: failures and rejected records as warnings, successes at debug level."""

import logging

from etl.logging_setup import RateLimitedLogger
from etl.models import ErrorScope, Snapshot
from etl.responses import Response

log = logging.getLogger(__name__)

MAX_REJECTIONS = 5
"""Rejected records of one response that are logged; the warehouse has all."""


class WindowLog:
    """Logs the windows of one sync, with a limit on the number of warnings."""

    def __init__(self) -> None:
        self._rejections = RateLimitedLogger(log, "rejected records")
        self._failures = RateLimitedLogger(log, "failed windows")

    def write(self, snapshot: Snapshot, response: Response, *, is_expected_error: bool) -> None:
        if snapshot.is_success and not snapshot.rejections and not log.isEnabledFor(logging.DEBUG):
            return  # nearly always: building the fields costs more than the rest
        window, fields = snapshot.window, snapshot.window.log_fields
        fields |= {"code": snapshot.code, "requests": response.requests, "seconds": round(response.seconds, 3)}
        count = len(snapshot.values.hours)
        if snapshot.is_success:
            log.debug("%s: %d records", window, count, extra={**fields, "records": count})
        elif snapshot.error_scope is ErrorScope.ACCOUNT:  # the run ends with an error that says it all
            log.debug("%s: the API refused the account: %s", window, snapshot.code, extra=fields)
        elif is_expected_error:
            log.debug("%s: refused (%s); not requested again", window, snapshot.code, extra=fields)
        else:
            problem = ": ".join(filter(None, (snapshot.code, snapshot.message)))
            text = "%s: failed: %s. The next sync requests it again."
            self._failures.warning(text, window, problem, extra=fields)
        for rejection in snapshot.rejections[:MAX_REJECTIONS]:
            text = "%s: record rejected, %s; see spending_rejections: %s"
            self._rejections.warning(text, window, rejection.reason, rejection.raw, extra=fields)
        if more := len(snapshot.rejections[MAX_REJECTIONS:]):
            text = "%s: %d more records rejected; see spending_rejections"
            self._rejections.warning(text, window, more, extra=fields)
