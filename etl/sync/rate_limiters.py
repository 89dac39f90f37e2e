"""Which accounts share a rate limiter: those of one API host, and on a server those of all processes that use it."""

import logging
import threading
from contextlib import ExitStack
from urllib.parse import urlsplit

from etl.clock import Clock
from etl.config import Settings
from etl.extract.rate_limit import RateLimiter, SharedRateLimiter
from etl.load.rate_limits import ServerSchedule
from etl.warehouse.engine import open_warehouse, warehouse_path, warehouse_url

log = logging.getLogger(__name__)


class RateLimiters(ExitStack):
    """The limiters of a process, made when an account first needs them. Thread-safe. Leaving it disconnects them."""

    def __init__(self, general: Settings, clock: Clock) -> None:
        super().__init__()
        self._rate, self._shard, self._clock = general.rate, general.shard, clock
        self._lock = threading.Lock()
        self._limiters: dict[tuple[str, str], RateLimiter] = {}

    def of(self, settings: Settings) -> RateLimiter:
        """The limiter for the account's API host and server. Without a rate there is nothing to share."""
        host, server = urlsplit(settings.api_url).netloc.lower(), ""
        if self._rate > 0 and warehouse_path(url := warehouse_url(settings.warehouse)) is None:
            server = url
        with self._lock:
            if (host, server) not in self._limiters:
                self._limiters[host, server] = self._new(host, server)
            return self._limiters[host, server]

    def _new(self, host: str, server: str) -> RateLimiter:
        if not server:
            if self._shard and self._rate > 0:
                text = "%d shards may send %g requests per second to %s: each has a --rate of its own without a server"
                log.info(text, self._shard.of, self._shard.of * self._rate, host)
            return RateLimiter(self._rate, self._clock)
        shared = ServerSchedule(open_warehouse(server, clock=self._clock), host, self._clock)
        self.callback(shared.close)
        return SharedRateLimiter(self._rate, self._clock, shared)
