"""What can stop the program, grouped by what the reader can do about it.

    AppError                  what failed, where, and a hint; exit code of the class
     +-- UsageError               2   the command line, a setting, the key's place
     +-- AccountRejectedError      3   the API refused the account: mend that first, nothing is retried
     +-- WarehouseError           4   the warehouse: locked, unreadable, newer schema, disk
     |    +-- WarehouseLockedError
     |    +-- SchemaTooNewError
     +-- ChecksFailedError            5   loaded, but a blocking check or --max-age failed
     +-- InterruptedRunError    130   Ctrl-C or SIGTERM: what was committed stays

Windows that failed or were left (exit code 1) raise nothing: the run's summary tells of them.

Bad data is not here: it is a value (Rejection, Unreadable, Refusal) and the run goes on. Anything else that is raised
is a defect of the program and keeps its traceback.
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


class ChecksFailedError(AppError):
    exit_code = 5


class InterruptedRunError(AppError):
    exit_code = 130


PRECEDENCE = (130, 2, 4, 3, 5, 1, 0)
"""When several apply, the first of these is the exit code; with ``--all`` the same over accounts."""


def most_severe(codes: "list[int]") -> int:
    """The one exit code that stands for all of ``codes``."""
    return min(codes, key=PRECEDENCE.index, default=0)
