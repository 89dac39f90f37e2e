"""Processes whose warehouse is on one server share its rate limit: real threads with connections of their own."""

import threading
import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
import sqlalchemy as sa

from etl import config
from etl.clock import Clock
from etl.extract.rate_limit import RateLimiter, SharedRateLimiter
from etl.load.rate_limits import ServerSchedule
from etl.sync.rate_limiters import RateLimiters
from etl.warehouse.engine import open_warehouse
from tests.postgres import migrated, new_database, run_sql

RATE = 50.0


def settings(folder: Path, **options: object) -> config.Settings:
    return config.load(options, datetime(2026, 1, 1, tzinfo=UTC), config.Environment({}, folder))


def limiters(url: str, number: int, rate: float = RATE) -> list[SharedRateLimiter]:
    return [
        SharedRateLimiter(rate, Clock(), ServerSchedule(open_warehouse(url), "api.example", Clock()))
        for _ in range(number)
    ]


def run(threads: list[SharedRateLimiter], seconds: float) -> list[list[float]]:
    """Let each thread start requests for some seconds; return when each of them started."""
    end = time.monotonic() + seconds
    starts: list[list[float]] = [[] for _ in threads]

    def work(number: int) -> None:
        while threads[number].acquire(lambda: time.monotonic() > end):
            starts[number].append(time.monotonic())

    running = [threading.Thread(target=work, args=(number,)) for number in range(len(threads))]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return starts


@pytest.fixture
def url() -> str:
    return new_database(like=migrated())


def test_four_processes_start_no_more_than_the_rate_and_get_equal_shares(url: str) -> None:
    starts = run(limiters(url, 4), 2)
    total = sorted(start for some in starts for start in some)
    assert len(total) <= RATE * 2 + 5
    assert len(total) >= RATE  # a busy machine may be late
    assert max(map(len, starts)) - min(map(len, starts)) <= 3


def test_a_pause_in_one_process_applies_to_all(url: str) -> None:
    one, *others = limiters(url, 3, rate=5)
    pause_began: list[float] = []

    def pause() -> None:
        pause_began.append(time.monotonic())
        one.pause(1.5)

    timer = threading.Timer(0.5, pause)
    timer.start()
    starts = sorted(start for some in run(others, 3) for start in some)
    timer.join()
    assert not [start for start in starts if pause_began[0] + 0.3 < start < pause_began[0] + 1.45]
    assert [start for start in starts if start > pause_began[0] + 1.45]


def test_reserved_starts_of_a_process_that_ends_delay_the_others_by_no_more_than_these_starts(url: str) -> None:
    first, second = (ServerSchedule(open_warehouse(url), "api.example", Clock()) for _ in range(2))
    for _ in range(5):
        first.reserve(0.2)
    first.close()
    seconds = second.reserve(0.2)
    assert seconds is not None
    assert seconds <= 1.0


def test_hosts_have_rates_of_their_own_and_the_clock_of_the_server_counts(url: str) -> None:
    engine, clock = open_warehouse(url), Clock(monotonic=lambda: 0.0)
    first, other = ServerSchedule(engine, "api.example", clock), ServerSchedule(engine, "other.example", clock)
    assert [first.reserve(10), other.reserve(10)] == [0, 0]
    assert first.reserve(10) == pytest.approx(10, abs=1)
    other.pause(60)
    assert (first.is_paused(), other.is_paused()) == (False, True)
    assert other.reserve(10) == pytest.approx(60, abs=1)
    stored = dict(run_sql(url, "select api_host, paused_until > now() from internal.rate_limits"))
    assert stored == {"api.example": False, "other.example": True}


def test_a_server_that_is_gone_is_reported_once_and_tried_again_later(
    url: str, caplog: pytest.LogCaptureFixture
) -> None:
    now = [0.0]
    schedule = ServerSchedule(open_warehouse(url), "api.example", Clock(monotonic=lambda: now[0]))
    assert schedule.reserve(1) == 0
    terminate = (
        "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()"
    )
    run_sql(url, terminate, sa.make_url(url).database)
    assert schedule.reserve(1) is None
    assert schedule.reserve(1) is None
    assert not schedule.is_paused()
    assert len([record for record in caplog.records if "cannot share the rate limit" in record.message]) == 1
    now[0] = 6.0
    assert schedule.reserve(1) is not None


def test_only_a_warehouse_on_a_server_shares_its_rate_and_only_if_there_is_one(url: str, tmp_path: Path) -> None:
    on_server, in_file = (settings(tmp_path, warehouse=warehouse) for warehouse in (url, "warehouse.duckdb"))
    with RateLimiters(on_server, Clock()) as limiters:
        assert isinstance(limiters.of(on_server), SharedRateLimiter)
        assert limiters.of(on_server) is limiters.of(on_server)
        assert type(limiters.of(in_file)) is RateLimiter
    with RateLimiters(settings(tmp_path, rate=0), Clock()) as limiters:
        assert type(limiters.of(on_server)) is RateLimiter


@pytest.mark.parametrize(("rate", "says"), [(20, True), (0, False)])
def test_shards_without_a_server_say_what_their_rates_add_up_to(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rate: int, says: bool
) -> None:
    shard = settings(tmp_path, rate=rate, shard="1/4", api_url="https://api.example")
    with caplog.at_level("INFO"), RateLimiters(shard, Clock()) as limiters:
        limiters.of(shard)
        limiters.of(shard)
    assert [record.message for record in caplog.records] == [
        "4 shards may send 80 requests per second to api.example: each has a --rate of its own without a server"
    ] * says
