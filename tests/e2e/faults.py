"""Failures of networks and of the API, and how a sync handles them: each row of the README's table with its scenario.

A scenario runs a first sync (unless it says otherwise) with the fault and returns its exit code.
``python -m tests.e2e.faults`` prints the table.
"""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import Context
from dataclasses import dataclass, replace
from datetime import timedelta
from email.utils import format_datetime
from functools import partial
from typing import Any

import pytest

from etl import config
from etl.errors import AppError
from etl.extract.client import Client
from etl.extract.transport import Timeouts
from etl.sandbox.behaviour import Fault, FaultKind
from etl.sync import run as sync_run
from etl.sync.results import SyncResult
from tests.e2e.world import KEY, World, ago, clock_without_waiting
from tests.integration.scripted_server import respond, send, serving, serving_tls
from tests.matrix import Matrix

MAX_ATTEMPTS = 6
"""Maximum number of requests for one window."""

SHORT_TIMEOUTS = Timeouts(connect=1, read=0.3, write=1, total=0.6)
"""Instead of one minute between two bytes and two minutes for the response."""


@dataclass(frozen=True, slots=True)
class Scene:
    """The world and the patches of a scenario."""

    world: World
    monkeypatch: pytest.MonkeyPatch

    def sync(self, *faults: Fault, **options: Any) -> int:
        """Return the exit code of a sync with these faults."""
        self.world.sandbox.faults = faults
        return _code(lambda: self.world.sync(**options))

    def sync_at(self, url: str, concurrency: int = 8) -> int:
        """Return the exit code of a sync against another server than the sandbox."""
        environment = config.Environment({"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": url}, self.world.folder)
        clock = clock_without_waiting(lambda: self.world.now)
        options = {"rate": 0, "concurrency": concurrency, "empty_days": 5}
        settings = config.load(options, clock.now(), environment, needs_key=True)
        return _code(
            lambda: Context().run(sync_run.sync_account, settings, clock, lambda progress: None)
        )  # the log context ends with it

    def shorten_timeouts(self) -> None:
        """Shorten the timeouts of the program to less than a second."""
        self.monkeypatch.setattr(sync_run, "Client", partial(Client, timeouts=SHORT_TIMEOUTS))

    @property
    def faults_met(self) -> int:
        """Number of requests that met a fault."""
        return sum(request.fault is not None for request in self.world.requests)

    @property
    def failed(self) -> int:
        """Number of days whose last attempt failed."""
        return self.world.statuses()["failed"]

    @property
    def fact_count(self) -> int:
        return int(self.world.one("select count(*) from internal.facts"))


def _code(run: Callable[[], SyncResult]) -> int:
    try:
        return run().exit_code
    except AppError as error:
        return error.exit_code


MATRIX = Matrix[Scene]("What goes wrong", "What a sync does")
row = MATRIX.row

EVERYTHING = "everything"
NOTHING = "nothing; the next run loads everything"
EVERYTHING_ELSE = "everything else; these days are `failed`, and the next run requests them again"
READ_BEFORE = "what was loaded before"
RETRIES = f"retries, up to {MAX_ATTEMPTS} requests per window, with growing random pauses"
GIVES_UP = "stops after five failed windows in a row (about two minutes)"


# ---------------------------------------------------------------- no connection


@contextmanager
def _sandbox_stopped(world: World) -> Iterator[None]:
    """Stop the sandbox, and start it again at the same address."""
    world.sandbox._port = int(world.sandbox.url.rpartition(":")[2])
    world.sandbox.__exit__(None, None, None)
    try:
        yield
    finally:
        world.sandbox.__enter__()


@row("connections refused from the start", does=f"{RETRIES}; {GIVES_UP}", code=1, stored=NOTHING)
def refused_at_start(scene: Scene) -> int:
    with _sandbox_stopped(scene.world):
        code = scene.sync()
    assert scene.world.requests == ()
    assert scene.world.one("select requests from internal.runs") == 5 * MAX_ATTEMPTS
    assert scene.fact_count == 0
    return code


@row("connections refused for some seconds midway", does=RETRIES, code=0, stored=EVERYTHING)
def refused_midway(scene: Scene) -> int:
    world = scene.world
    world.sandbox.behaviour = replace(world.behaviour, latency_seconds=0.02)
    with world.start(concurrency=4) as process:
        world.wait_for(process, 30)
        with _sandbox_stopped(world):
            assert process.poll() is None
            threading.Event().wait(1.5)
        process.communicate(timeout=60)
        return process.returncode


@row(
    "connections refused from midway on",
    does=f"{RETRIES}; {GIVES_UP}",
    code=1,
    stored=f"{READ_BEFORE}; the next run goes on",
)
def refused_for_good(scene: Scene) -> int:
    assert scene.sync(until=ago(6)) == 0
    before = scene.fact_count
    with _sandbox_stopped(scene.world):
        code = scene.sync()
    assert scene.fact_count == before > 0
    return code


@row("connections reset", does=RETRIES, code=0, stored=EVERYTHING)
def reset(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.RESET)


@row("unknown host name from the start", does=f"{RETRIES}; {GIVES_UP}", code=1, stored=NOTHING)
def unknown_host_at_start(scene: Scene) -> int:
    _break_name_resolution(scene, lambda request_count: True)
    code = scene.sync_at(_by_name(scene.world))
    assert scene.world.requests == ()
    assert scene.world.one("select string_agg(distinct code, ',') from internal.snapshots") == "dns"
    return code


@row("unknown host name for some requests midway", does=RETRIES, code=0, stored=EVERYTHING)
def unknown_host_midway(scene: Scene) -> int:
    failures: list[int] = []
    _break_name_resolution(scene, lambda request_count: request_count >= 30 and len(failures) < 2, failures)
    scene.world.sandbox.faults = (Fault(FaultKind.RESET, numbers=(30, 31)),)
    code = scene.sync_at(
        _by_name(scene.world), concurrency=2
    )  # both connections are closed, so the sync has to connect again
    assert len(failures) == 2
    return code


def _by_name(world: World) -> str:
    return world.sandbox.url.replace("127.0.0.1", "localhost")


def _break_name_resolution(scene: Scene, is_down: Callable[[int], bool], failures: list[int] | None = None) -> None:
    """Make name resolution fail whenever ``is_down(number of requests so far)`` is true."""
    resolve = socket.getaddrinfo

    def resolve_or_not(host: Any, *arguments: Any, **keywords: Any) -> Any:
        if host in ("localhost", b"localhost") and is_down(len(scene.world.requests)):
            if failures is not None:
                failures.append(1)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1" if host in ("localhost", b"localhost") else host, *arguments, **keywords)

    scene.monkeypatch.setattr(socket, "getaddrinfo", resolve_or_not)


# ---------------------------------------------------------------- a bad connection


def _fail_first_requests(scene: Scene, kind: FaultKind, rate: float = 0.3, **keywords: Any) -> int:
    """Run a sync in which every third window fails at its first request."""
    code = scene.sync(Fault(kind, rate=rate, attempts=(1,), **keywords))
    assert scene.faults_met > 10
    assert scene.failed == 0
    return code


@row("no response", does=f"gives up after 60 s without a byte; {RETRIES}", code=0, stored=EVERYTHING)
def silence(scene: Scene) -> int:
    scene.shorten_timeouts()
    return _fail_first_requests(scene, FaultKind.HANG, seconds=1)


@row("a response that arrives byte by byte", does=f"ends the request after 120 s; {RETRIES}", code=0, stored=EVERYTHING)
def slow_drip(scene: Scene) -> int:
    scene.shorten_timeouts()
    return _fail_first_requests(scene, FaultKind.SLOW_DRIP, seconds=2)


@row(
    "a response that never ends, or of more than 1 MB",
    does=f"ends the request and stores nothing of it; {RETRIES}",
    code=0,
    stored=EVERYTHING,
)
def endless(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.ENDLESS)


@row("half of a response, then the connection closes", does=RETRIES, code=0, stored=EVERYTHING)
def half_sent(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.HALF_SENT)


@row("half of a response, sent as if it were complete", does=RETRIES, code=0, stored=EVERYTHING)
def truncated(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.TRUNCATED)


# ---------------------------------------------------------------- TLS


def _refuses_tls(scene: Scene, url: str, requests: list[bytes]) -> int:
    code = scene.sync_at(url)
    assert requests == [], "data was sent over an unverified connection"
    assert scene.world.one("select string_agg(distinct code, ',') from internal.snapshots") == "tls"
    return code


@row("a self-signed certificate", does=f"sends nothing, in particular not the key; {GIVES_UP}", code=1, stored=NOTHING)
def self_signed(scene: Scene) -> int:
    with serving_tls(scene.world.folder, respond(b"")) as server:
        return _refuses_tls(scene, server.url, server.requests)


@row(
    "a certificate of another host",
    does=f"sends nothing, in particular not the key; {GIVES_UP}",
    code=1,
    stored=NOTHING,
)
def wrong_host(scene: Scene) -> int:
    scene.monkeypatch.setenv("SSL_CERT_FILE", str(scene.world.folder / "cert.pem"))
    with serving_tls(scene.world.folder, respond(b"")) as server:
        return _refuses_tls(scene, server.url.replace("localhost", "127.0.0.1"), server.requests)


@row("plain HTTP instead of TLS", does=f"sends nothing, in particular not the key; {GIVES_UP}", code=1, stored=NOTHING)
def no_tls(scene: Scene) -> int:
    with serving(send(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        server.on_connect = lambda _, peer: _respond_to_hello(peer)
        return _refuses_tls(scene, server.url.replace("http:", "https:"), server.requests)


def _respond_to_hello(peer: socket.socket) -> None:
    with peer:
        assert KEY.encode() not in peer.recv(65536)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


# ---------------------------------------------------------------- another server responds


@row("a redirect", does="never follows it; the window fails; stops after five in a row", code=1, stored=READ_BEFORE)
def redirect(scene: Scene) -> int:
    assert scene.sync(until=ago(6)) == 0
    before = scene.fact_count
    with (
        serving(respond(b"")) as elsewhere,
        serving(respond(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}x")) as server,
    ):
        code = scene.sync_at(server.url)
    assert elsewhere.requests == []
    assert scene.fact_count == before > 0
    return code


@row("a web page with status 200", does=RETRIES, code=0, stored=EVERYTHING)
def html(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.HTML)


@row("an empty body with status 200", does=RETRIES, code=0, stored=EVERYTHING)
def empty(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.EMPTY)


@row("5xx for all requests for a while", does=RETRIES, code=0, stored=EVERYTHING)
def many_server_errors(scene: Scene) -> int:
    kinds = (FaultKind.HTML_500, FaultKind.HTML_502, FaultKind.HTML_503)
    days = tuple(ago(days) for days in range(3, 9))
    code = scene.sync(*(Fault(kind, days=days, attempts=(attempt,)) for attempt, kind in enumerate(kinds, start=1)))
    assert scene.faults_met >= len(kinds) * len(days)
    return code


@row("5xx for all requests permanently", does=f"{RETRIES}; {GIVES_UP}", code=1, stored=READ_BEFORE)
def down(scene: Scene) -> int:
    return _permanent_fault(scene, Fault(FaultKind.HTML_503), concurrency=1, limit=5 * MAX_ATTEMPTS)


@row("429 with `Retry-After` in seconds", does="sends no request until then, then retries", code=0, stored=EVERYTHING)
def retry_after_seconds(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.RETRY_AFTER, retry_after="120")


@row("429 with `Retry-After` as a date", does="sends no request until then, then retries", code=0, stored=EVERYTHING)
def retry_after_date(scene: Scene) -> int:
    until = format_datetime(scene.world.now + timedelta(minutes=2), usegmt=True)
    return _fail_first_requests(scene, FaultKind.RETRY_AFTER, retry_after=until)


@row(
    "429 with an unusable `Retry-After` (years, negative, not a time)",
    does="waits at most five minutes, or its own pauses if the value is unusable, then retries",
    code=0,
    stored=EVERYTHING,
)
def retry_after_invalid(scene: Scene) -> int:
    values = ("99999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "-5", "soon", "Thu, 99 Jan 1970 00:00:00 GMT", "")
    faults_met = partial(Fault, FaultKind.RETRY_AFTER, attempts=(1,))
    code = scene.sync(*(faults_met(days=(ago(days),), retry_after=text) for days, text in enumerate(values, start=1)))
    assert scene.faults_met >= len(values)
    return code


# ---------------------------------------------------------------- the API's own errors


def _permanent_fault(scene: Scene, fault: Fault, limit: int, **options: Any) -> int:
    """Run a sync with a fault in the second half of a history; at most ``most`` requests meet it."""
    assert scene.sync(until=ago(6)) == 0
    before = scene.fact_count
    code = scene.sync(fault, **options)
    assert 0 < scene.faults_met <= limit
    assert scene.fact_count == before > 0
    return code


def _account_error_midway(scene: Scene, kind: FaultKind) -> int:
    """Return an error for the account from request 40 on; only requests in flight may follow it."""
    scene.world.sandbox.behaviour = replace(scene.world.behaviour, latency_seconds=0.02)
    code = scene.sync(Fault(kind, numbers=tuple(range(40, 1_000))), concurrency=8)
    assert len(scene.world.requests) < 40 + 8
    assert scene.world.one("select count(*) from internal.snapshots where outcome = 'success'") >= 40 - 8
    return code


STOPS = "stops at once, without further requests; the error says what to fix"


@row("the key is refused midway", does=STOPS, code=3, stored=READ_BEFORE)
def key_refused(scene: Scene) -> int:
    return _account_error_midway(scene, FaultKind.REFUSE_KEY)


@row("this machine's IP is blocked midway", does=STOPS, code=3, stored=READ_BEFORE)
def ip_blocked(scene: Scene) -> int:
    return _account_error_midway(scene, FaultKind.IP_BLOCKED)


@row("this machine's IP is removed from the account's list midway", does=STOPS, code=3, stored=READ_BEFORE)
def ip_not_allowed(scene: Scene) -> int:
    return _account_error_midway(scene, FaultKind.IP_NOT_ALLOWED)


@row("the account is suspended midway", does=STOPS, code=3, stored=READ_BEFORE)
def suspended(scene: Scene) -> int:
    return _account_error_midway(scene, FaultKind.SUSPENDED)


@row("the balance becomes zero midway", does=STOPS, code=3, stored=READ_BEFORE)
def zero_balance(scene: Scene) -> int:
    return _account_error_midway(scene, FaultKind.ZERO_BALANCE)


@row("no such method at the URL", does=STOPS, code=3, stored=NOTHING)
def no_such_method(scene: Scene) -> int:
    code = scene.sync_at(f"{scene.world.sandbox.url}/v9")
    assert len(scene.world.requests) == 1
    assert scene.fact_count == 0
    return code


@row("no slot available", does=RETRIES, code=0, stored=EVERYTHING)
def no_slot(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.NO_SLOT)


@row("an unknown error code once", does="retries once after 5 s", code=0, stored=EVERYTHING)
def unknown_code_once(scene: Scene) -> int:
    code = scene.sync(
        Fault(FaultKind.UNKNOWN_CODE, rate=0.3, attempts=(1,), days=tuple(ago(days) for days in range(1, 10)))
    )
    assert scene.faults_met > 5
    return code


@row(
    "an unknown error code for one window",
    does="retries once after 5 s, then the window fails",
    code=1,
    stored=EVERYTHING_ELSE,
)
def unknown_code_for_one(scene: Scene) -> int:
    code = scene.sync(Fault(FaultKind.UNKNOWN_CODE, days=(ago(7),), queues=("Russian ImageToText",)))
    assert (scene.faults_met, scene.world.days("failed")) == (2, {ago(7)})
    return code


@row(
    "an unknown error code for all requests",
    does="requests each window twice; stops after five failed windows in a row",
    code=1,
    stored=READ_BEFORE,
)
def unknown_code_everywhere(scene: Scene) -> int:
    return _permanent_fault(scene, Fault(FaultKind.UNKNOWN_CODE), concurrency=1, limit=10)


# ---------------------------------------------------------------- responses with invalid content


@row(
    "once, an unusable record (a negative volume, NaN)",
    does="retries once after 5 s",
    code=0,
    stored=EVERYTHING,
)
def bad_record_once(scene: Scene) -> int:
    kinds = (FaultKind.NAN, FaultKind.NEGATIVE_VOLUME)
    code = scene.sync(*(Fault(kind, rate=0.2, attempts=(1,)) for kind in kinds))
    assert scene.faults_met > 10
    assert scene.world.rows("select * from spending_rejections") == []
    return code


@row(
    "a record that is never usable",
    does="retries once, stores it with its reason in `spending_rejections`; the window fails",
    code=1,
    stored=EVERYTHING_ELSE,
)
def bad_record(scene: Scene) -> int:
    code = scene.sync(Fault(FaultKind.NEGATIVE_VOLUME, days=(ago(7),), queues=(None,)))
    assert (scene.faults_met, scene.world.days("failed")) == (2, {ago(7)})
    assert scene.world.one("select count(*) from spending_rejections") == 1
    return code


@row("once, hours of another day", does="retries once after 5 s", code=0, stored=EVERYTHING)
def other_hours_once(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.VENDOR_EXAMPLE)


@row("a body that is not JSON", does=RETRIES, code=0, stored=EVERYTHING)
def not_json(scene: Scene) -> int:
    return _fail_first_requests(scene, FaultKind.VENDOR_PAGE)


@row(
    "once, no records although spend is stored",
    does="requests the window once more before it counts",
    code=0,
    stored=EVERYTHING,
)
def no_records_once(scene: Scene) -> int:
    assert scene.sync() == 0
    days = tuple(ago(days) for days in range(1, 4))
    code = scene.sync(*(Fault(kind, days=days, attempts=(1,)) for kind in (FaultKind.NULL_DATA, FaultKind.NO_DATA)))
    assert scene.faults_met == len(days)
    return code


@row(
    "once, a success without `data` for a day that was never read, beside days with spend",
    does="requests the window once more before it counts",
    code=0,
    stored=EVERYTHING,
)
def no_data_once(scene: Scene) -> int:
    days = tuple(ago(days) for days in range(1, 6))
    totals = Fault(FaultKind.NULL_DATA, days=days, queues=(None,), attempts=(1,))
    code = scene.sync(totals, Fault(FaultKind.NO_DATA, days=(ago(3),), attempts=(1,)))
    assert scene.faults_met > len(days)
    return code


# ---------------------------------------------------------------- this machine


OPEN = "everything; no day is final before a run with a correct clock"


@row(
    "the clock is days ahead",
    does="uses the server's time, makes no day final, and warns",
    code=0,
    stored=OPEN,
)
def clock_ahead(scene: Scene) -> int:
    return _sync_with_wrong_clock(scene, timedelta(days=3))


@row(
    "the clock is days behind",
    does="loads the days up to its own date, makes none final, and warns",
    code=0,
    stored=OPEN,
)
def clock_behind(scene: Scene) -> int:
    return _sync_with_wrong_clock(scene, timedelta(days=-3))


def _sync_with_wrong_clock(scene: Scene, clock_error: timedelta) -> int:
    scene.world.ahead = clock_error
    code = scene.sync()
    assert scene.world.days("final") == set()
    scene.world.ahead = timedelta(0)
    return code


@row(
    "the clock jumps midway by days, ahead and back",
    does="makes no day final from then on, and warns",
    code=0,
    stored=OPEN,
)
def clock_jumps(scene: Scene) -> int:
    world = scene.world
    world.sandbox.behaviour = replace(world.behaviour, latency_seconds=0.02)
    codes: list[int] = []
    sync = threading.Thread(target=lambda: codes.append(scene.sync(concurrency=2)))
    sync.start()
    for requests, clock_error in ((20, 3), (40, -3), (60, 0)):
        while len(world.requests) < requests and sync.is_alive():
            threading.Event().wait(0.005)
        world.ahead = timedelta(days=clock_error)
    sync.join()
    assert world.one("select count(*) from internal.findings where message like '%clock%'") == 1
    [code] = codes
    return code


@row(
    "a stored raw response is damaged or missing, and its day is read again",
    does="requests the windows of the day again",
    code=0,
    stored=EVERYTHING,
)
def damaged_response(scene: Scene) -> int:
    assert scene.sync() == 0
    before = scene.world.hourly()
    scene.world.rows("update internal.responses set body = 'damaged'::blob")
    code = scene.sync()
    assert scene.world.hourly() == before
    assert scene.world.one("select count(*) from spending_revisions") == 0
    return code


if __name__ == "__main__":
    print(MATRIX.table())
