"""Errors that stop the program, grouped by what the reader can do about them.

    AppError                       what failed, where, and a hint
     +-- UsageError            2   the command line, a setting, the place of the key
     +-- AccountRejectedError  3   the API refused the account: fix that first, nothing is retried
     +-- WarehouseError        4   the warehouse: locked, unreadable, newer schema, disk
     |    +-- WarehouseLockedError
     |    +-- SchemaTooNewError
     |    +-- LakeConflictError
     +-- ChecksFailedError     5   data is loaded, but a blocking check or --max-age failed, or an alert fires
     +-- InterruptedRunError 130   Ctrl-C or SIGTERM: what was committed is kept

The number is the exit code. Windows that failed or are left (exit code 1) raise nothing: the run's summary lists them.

Bad data is not an error but a value (Rejection, InvalidResponse, ApiError), and the run goes on. Any other exception is
a defect of the program and keeps its traceback.
"""

from typing import ClassVar


class AppError(Exception):
    """Something the user can act on. ``hint`` says how; both are printed, without a traceback."""

    exit_code: ClassVar[int] = 1

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class UsageError(AppError):
    exit_code = 2


class AccountRejectedError(AppError):
    exit_code = 3


class WarehouseError(AppError):
    exit_code = 4


class WarehouseLockedError(WarehouseError):
    pass


class SchemaTooNewError(WarehouseError):
    pass


class LakeConflictError(WarehouseError):
    """Another shipment of the same accounts was faster."""


class ChecksFailedError(AppError):
    exit_code = 5


class InterruptedRunError(AppError):
    exit_code = 130


PRECEDENCE = (130, 2, 4, 3, 5, 1, 0)
"""When several apply, the first of these is the exit code; with ``--all`` the same over accounts."""


def most_severe(codes: "list[int]") -> int:
    """The one exit code that stands for all of ``codes``."""
    return min(codes, key=PRECEDENCE.index, default=0)
