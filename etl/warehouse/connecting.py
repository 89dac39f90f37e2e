"""How warehouses of both kinds are opened: without a pool, and waiting for what another program has locked."""

import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, TypeVar

from etl.clock import Clock
from etl.errors import WarehouseError, WarehouseLockedError

if TYPE_CHECKING:
    import sqlalchemy as sa
    from sqlalchemy.engine.interfaces import Dialect, ExceptionContext
    from sqlalchemy.pool import ConnectionPoolEntry

log = logging.getLogger(__name__)

_T = TypeVar("_T")

Connect = Callable[[], Any]
"""Opens a connection of the driver."""


def create_engine(
    url: "sa.URL",
    connect: Callable[[Connect], Any],
    translate: Callable[[BaseException], BaseException | None],
    **options: Any,
) -> "sa.Engine":
    """An engine without a pool. ``connect`` is given the driver's own function that opens a connection.

    ``translate`` returns what to raise in place of a driver's error, or None to leave the error to SQLAlchemy.
    """
    import sqlalchemy as sa

    # Error messages must not show what was written, for example the hash of a key.
    engine = sa.create_engine(url, poolclass=sa.NullPool, hide_parameters=True, **options)

    @sa.event.listens_for(engine, "do_connect")
    def do_connect(dialect: "Dialect", _entry: "ConnectionPoolEntry", args: list[Any], named: dict[str, Any]) -> object:
        return connect(partial(dialect.connect, *args, **named))

    @sa.event.listens_for(engine, "handle_error")
    def handle_error(context: "ExceptionContext") -> None:
        if (error := translate(context.original_exception)) is not None:
            raise error from context.original_exception

    return engine


def missing_warehouse(name: str) -> WarehouseError:
    hint = "create one with anticaptcha-etl sync, or choose another with --warehouse"
    return WarehouseError(f"there is no warehouse at {name}", hint)


class LockWait:
    """Repeats an attempt while another program has a lock, for at most ``seconds``. Logs each lock once."""

    def __init__(self, seconds: float, poll_seconds: float, clock: Clock) -> None:
        self._seconds, self._poll_seconds, self._clock = seconds, poll_seconds, clock
        self._logged: set[str] = set()

    def call(self, attempt: Callable[[], _T]) -> _T:
        """Call ``attempt`` until it no longer raises WarehouseLockedError."""
        began = self._clock.monotonic()
        while True:
            try:
                return attempt()
            except WarehouseLockedError as error:
                remaining = began + self._seconds - self._clock.monotonic()
                if remaining <= 0:
                    raise
                if error.message not in self._logged:
                    self._logged.add(error.message)
                    log.info("%s; waiting for it, at most %g s", error.message, self._seconds)
            self._clock.sleep(min(remaining, self._poll_seconds))
