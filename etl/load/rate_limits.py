"""The rate of requests that all processes with a warehouse on one server share: one row per API host.

Each request moves the row's time forward in a transaction of its own, by the server's clock. A process that is killed
wastes the starts it had reserved and blocks nothing.
"""

import logging
import threading
from contextlib import suppress
from typing import Any

import sqlalchemy as sa

from etl.clock import Clock
from etl.errors import WarehouseError

log = logging.getLogger(__name__)

_RETRY_SECONDS = 5
"""Pause between attempts to reach a server that could not be reached."""

_NOW = "cast(clock_timestamp() as timestamp)"
"""The time of the statement; a transaction's own time would be before it waited for other processes."""

_RESERVE = f"""
    insert into internal.rate_limits as r (api_host, next_at, paused_until)
    values (:host, {_NOW} + make_interval(secs => :interval), {_NOW})
        on conflict (api_host)
        do update set next_at = greatest(r.next_at, r.paused_until, {_NOW}) + make_interval(secs => :interval)
    returning cast(greatest(extract(epoch from next_at - {_NOW}) - :interval, 0) as double precision)
"""

_PAUSE = f"""
    insert into internal.rate_limits as r (api_host, next_at, paused_until)
    values (:host, {_NOW}, {_NOW} + make_interval(secs => :seconds))
        on conflict (api_host)
        do update set paused_until = greatest(r.paused_until, excluded.paused_until)
"""

_IS_PAUSED = f"select paused_until > {_NOW} from internal.rate_limits where api_host = :host"


class ServerSchedule:
    """See ``extract.rate_limit.SharedSchedule``. Keeps one connection open; its methods are thread-safe."""

    def __init__(self, engine: sa.Engine, api_host: str, clock: Clock) -> None:
        self._engine = engine.execution_options(isolation_level="AUTOCOMMIT")
        self._host = api_host
        self._clock = clock
        self._lock = threading.Lock()
        self._connection: sa.Connection | None = None
        self._retry_at: float = 0

    def reserve(self, interval: float) -> float | None:
        """Seconds until the reserved start of a request; None if the server cannot be reached."""
        seconds: float | None = self._execute(_RESERVE, interval=interval)
        return seconds

    def pause(self, seconds: float) -> None:
        """Let no process start a request for ``seconds``."""
        self._execute(_PAUSE, seconds=seconds)

    def is_paused(self) -> bool:
        """Whether a pause has begun that has not ended."""
        return bool(self._execute(_IS_PAUSED))

    def close(self) -> None:
        """Close the connection. It is opened again when it is needed."""
        with self._lock:
            self._disconnect()

    def _execute(self, sql: str, **params: float) -> Any:
        """The value that the statement returns; None without one, or if the server cannot be reached."""
        with self._lock:
            if self._clock.monotonic() < self._retry_at:
                return None
            try:
                result = self._connect().execute(sa.text(sql), {"host": self._host, **params})
                return result.scalar_one_or_none() if result.returns_rows else None
            except (WarehouseError, sa.exc.SQLAlchemyError) as error:
                self._disconnect()
                self._retry_at = self._clock.monotonic() + _RETRY_SECONDS
                log.warning("cannot share the rate limit with other processes, this one keeps to it alone: %s", error)
                return None

    def _connect(self) -> sa.Connection:
        if self._connection is None:
            self._connection = self._engine.connect()
            # If the server crashes, only starts of requests are lost.
            self._connection.exec_driver_sql("set synchronous_commit = off")
        return self._connection

    def _disconnect(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            with suppress(WarehouseError, sa.exc.SQLAlchemyError):
                connection.close()
