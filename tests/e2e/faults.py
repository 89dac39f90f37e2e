"""What networks and the API do, and what a sync then does: each row of the README's table with the act that shows it.

An act lets a first sync (unless it says otherwise) meet the fault and gives its exit code.
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
from tests.e2e.world import KEY, World, ago, napless
from tests.integration.scripted_server import says, sends, serving, serving_tls
from tests.matrix import Matrix

TRIES = 6
"""Requests that one window gets at most."""

IMPATIENT = Timeouts(connect=1, read=0.3, write=1, pool=5, total=0.6)
"""In place of a minute for each byte and two for the whole."""


@dataclass(frozen=True, slots=True)
class Scene:
    """Where an act plays."""

    world: World
    monkeypatch: pytest.MonkeyPatch

    def sync(self, *faults: Fault, **given: Any) -> int:
        """The exit code of a sync that meets the faults."""
        self.world.sandbox.faults = faults
        return _code(lambda: self.world.sync(**given))

    def sync_at(self, url: str, concurrency: int = 8) -> int:
        """The exit code of a sync that is sent to another server than the stand-in."""
        place = config.Environment({"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": url}, self.world.folder)
        clock = napless(lambda: self.world.now)
        said = {"rate": 0, "concurrency": concurrency, "empty_days": 5}
        chosen = config.load(said, clock.now(), place, needs_key=True)
        return _code(
            lambda: Context().run(sync_run.sync_account, chosen, clock, lambda progress: None)
        )  # its log lines' fields end with it

    def hurry(self) -> None:
        """The program gives up waiting for a server within a second."""
        self.monkeypatch.setattr(sync_run, "Client", partial(Client, timeouts=IMPATIENT))

    @property
    def struck(self) -> int:
        """Requests that a fault met."""
        return sum(request.fault is not None for request in self.world.requests)

    @property
    def failed(self) -> int:
        """Days whose last attempt failed."""
        return self.world.statuses()["failed"]

    @property
    def held(self) -> int:
        return int(self.world.one("select count(*) from internal.facts"))


def _code(act: Callable[[], SyncResult]) -> int:
    try:
        return act().exit_code
    except AppError as error:
        return error.exit_code


MATRIX = Matrix[Scene]("What goes wrong", "What a sync does")
row = MATRIX.row

EVERYTHING = "everything"
NOTHING = "nothing; the next run reads it all"
THE_REST = "everything else; those days are `failed`, the next run asks them"
BEFORE = "what was read before"
AGAIN = f"asks again, up to {TRIES} times a window with growing, jittered pauses"
GIVES_UP = "after five windows in a row (some two minutes) gives up"


# ---------------------------------------------------------------- no connection


@contextmanager
def _closed(world: World) -> Iterator[None]:
    """The stand-in is gone, and then back at the same address."""
    world.sandbox._port = int(world.sandbox.url.rpartition(":")[2])
    world.sandbox.__exit__(None, None, None)
    try:
        yield
    finally:
        world.sandbox.__enter__()


@row("connections refused from the start", does=f"{AGAIN}; {GIVES_UP}", code=1, held=NOTHING)
def refused_at_start(scene: Scene) -> int:
    with _closed(scene.world):
        code = scene.sync()
    assert scene.world.requests == ()
    assert scene.world.one("select requests from internal.runs") == 5 * TRIES
    assert scene.held == 0
    return code


@row("connections refused for some seconds midway", does=AGAIN, code=0, held=EVERYTHING)
def refused_midway(scene: Scene) -> int:
    world = scene.world
    world.sandbox.behaviour = replace(world.behaviour, latency_seconds=0.02)
    with world.start(concurrency=4) as process:
        world.wait_for(process, 30)
        with _closed(world):
            assert process.poll() is None
            threading.Event().wait(1.5)
        process.communicate(timeout=60)
        return process.returncode


@row("connections refused from midway on", does=f"{AGAIN}; {GIVES_UP}", code=1, held=f"{BEFORE}; the next run goes on")
def refused_for_good(scene: Scene) -> int:
    assert scene.sync(until=ago(6)) == 0
    before = scene.held
    with _closed(scene.world):
        code = scene.sync()
    assert scene.held == before > 0
    return code


@row("connections reset", does=AGAIN, code=0, held=EVERYTHING)
def reset(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.RESET)


@row("the host name is not known from the start", does=f"{AGAIN}; {GIVES_UP}", code=1, held=NOTHING)
def unknown_host_at_start(scene: Scene) -> int:
    _unresolved(scene, lambda asked: True)
    code = scene.sync_at(_by_name(scene.world))
    assert scene.world.requests == ()
    assert scene.world.one("select string_agg(distinct code, ',') from internal.snapshots") == "dns"
    return code


@row("the host name is not known for some requests midway", does=AGAIN, code=0, held=EVERYTHING)
def unknown_host_midway(scene: Scene) -> int:
    lost: list[int] = []
    _unresolved(scene, lambda asked: asked >= 30 and len(lost) < 2, lost)
    scene.world.sandbox.faults = (Fault(FaultKind.RESET, numbers=(30, 31)),)
    code = scene.sync_at(
        _by_name(scene.world), concurrency=2
    )  # so both its connections are gone, and it has to connect anew
    assert len(lost) == 2
    return code


def _by_name(world: World) -> str:
    return world.sandbox.url.replace("127.0.0.1", "localhost")


def _unresolved(scene: Scene, is_down: Callable[[int], bool], lost: list[int] | None = None) -> None:
    """The resolver of the process knows no name, as often as ``is_down`` says of the number of requests so far."""
    resolve = socket.getaddrinfo

    def resolve_or_not(host: Any, *unattributed: Any, **more: Any) -> Any:
        if host in ("localhost", b"localhost") and is_down(len(scene.world.requests)):
            if lost is not None:
                lost.append(1)
            raise socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution")
        return resolve("127.0.0.1" if host in ("localhost", b"localhost") else host, *unattributed, **more)

    scene.monkeypatch.setattr(socket, "getaddrinfo", resolve_or_not)


# ---------------------------------------------------------------- a bad connection


def _first_askings(scene: Scene, kind: FaultKind, rate: float = 0.3, **more: Any) -> int:
    """A sync whose every third window is struck when it is first asked."""
    code = scene.sync(Fault(kind, rate=rate, attempts=(1,), **more))
    assert scene.struck > 10
    assert scene.failed == 0
    return code


@row("silence instead of an answer", does=f"gives up after 60 s without a byte; {AGAIN}", code=0, held=EVERYTHING)
def silence(scene: Scene) -> int:
    scene.hurry()
    return _first_askings(scene, FaultKind.HANG, seconds=1)


@row("an answer that drips in, byte by byte", does=f"breaks off after 120 s; {AGAIN}", code=0, held=EVERYTHING)
def slow_drip(scene: Scene) -> int:
    scene.hurry()
    return _first_askings(scene, FaultKind.SLOW_DRIP, seconds=2)


@row(
    "an answer that never ends, or of more than 1 MB",
    does=f"breaks off and keeps none of it; {AGAIN}",
    code=0,
    held=EVERYTHING,
)
def endless(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.ENDLESS)


@row("half of an answer, then the connection closes", does=AGAIN, code=0, held=EVERYTHING)
def half_sent(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.HALF_SENT)


@row("half of an answer, sent as if it were whole", does=AGAIN, code=0, held=EVERYTHING)
def dimension(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.TRUNCATED)


# ---------------------------------------------------------------- TLS


def _refuses_tls(scene: Scene, url: str, requests: list[bytes]) -> int:
    code = scene.sync_at(url)
    assert requests == [], "something was sent through a connection that proved nothing"
    assert scene.world.one("select string_agg(distinct code, ',') from internal.snapshots") == "tls"
    return code


@row("a certificate nobody signed", does=f"sends nothing, the key least of all; {GIVES_UP}", code=1, held=NOTHING)
def self_signed(scene: Scene) -> int:
    with serving_tls(scene.world.folder, says(b"")) as server:
        return _refuses_tls(scene, server.url, server.requests)


@row("a certificate of another host", does=f"sends nothing, the key least of all; {GIVES_UP}", code=1, held=NOTHING)
def wrong_host(scene: Scene) -> int:
    scene.monkeypatch.setenv("SSL_CERT_FILE", str(scene.world.folder / "cert.pem"))
    with serving_tls(scene.world.folder, says(b"")) as server:
        return _refuses_tls(scene, server.url.replace("localhost", "127.0.0.1"), server.requests)


@row("plain HTTP where TLS should be", does=f"sends nothing, the key least of all; {GIVES_UP}", code=1, held=NOTHING)
def no_tls(scene: Scene) -> int:
    with serving(sends(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as server:
        server.greet = lambda _, peer: _answers_hello(peer)
        return _refuses_tls(scene, server.url.replace("http:", "https:"), server.requests)


def _answers_hello(peer: socket.socket) -> None:
    with peer:
        assert KEY.encode() not in peer.recv(65536)
        peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")


# ---------------------------------------------------------------- another server answers


@row("a redirect", does="never follows it; that window fails; after five in a row gives up", code=1, held=BEFORE)
def redirect(scene: Scene) -> int:
    assert scene.sync(until=ago(6)) == 0
    before = scene.held
    with (
        serving(says(b"")) as elsewhere,
        serving(says(b"", "307 Temporary Redirect", f"Location: {elsewhere.url}x")) as server,
    ):
        code = scene.sync_at(server.url)
    assert elsewhere.requests == []
    assert scene.held == before > 0
    return code


@row("a web page with status 200", does=AGAIN, code=0, held=EVERYTHING)
def html(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.HTML)


@row("an empty body with status 200", does=AGAIN, code=0, held=EVERYTHING)
def empty(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.EMPTY)


@row("5xx to everything for a while", does=AGAIN, code=0, held=EVERYTHING)
def storm(scene: Scene) -> int:
    kinds = (FaultKind.HTML_500, FaultKind.HTML_502, FaultKind.HTML_503)
    days = tuple(ago(days) for days in range(3, 9))
    code = scene.sync(*(Fault(kind, days=days, attempts=(attempt,)) for attempt, kind in enumerate(kinds, start=1)))
    assert scene.struck >= len(kinds) * len(days)
    return code


@row("5xx to everything for good", does=f"{AGAIN}; {GIVES_UP}", code=1, held=BEFORE)
def down(scene: Scene) -> int:
    return _for_good(scene, Fault(FaultKind.HTML_503), concurrency=1, most=5 * TRIES)


@row("429 with `Retry-After` in seconds", does="nobody asks anything until then; asks again", code=0, held=EVERYTHING)
def patience_in_seconds(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.RETRY_AFTER, retry_after="120")


@row("429 with `Retry-After` as a date", does="nobody asks anything until then; asks again", code=0, held=EVERYTHING)
def patience_until_a_date(scene: Scene) -> int:
    until = format_datetime(scene.world.now + timedelta(minutes=2), usegmt=True)
    return _first_askings(scene, FaultKind.RETRY_AFTER, retry_after=until)


@row(
    "429 with an absurd `Retry-After` (years, negative, no time at all)",
    does="waits five minutes at most, by its own pauses where it makes no sense; asks again",
    code=0,
    held=EVERYTHING,
)
def patience_without_reason(scene: Scene) -> int:
    absurd = ("99999999999", "Fri, 31 Dec 9999 23:59:59 GMT", "-5", "soon", "Thu, 99 Jan 1970 00:00:00 GMT", "")
    struck = partial(Fault, FaultKind.RETRY_AFTER, attempts=(1,))
    code = scene.sync(*(struck(days=(ago(days),), retry_after=text) for days, text in enumerate(absurd, start=1)))
    assert scene.struck >= len(absurd)
    return code


# ---------------------------------------------------------------- the API's own errors


def _for_good(scene: Scene, fault: Fault, most: int, **given: Any) -> int:
    """A fault from the middle of a history on; no more requests than ``most`` meet it."""
    assert scene.sync(until=ago(6)) == 0
    before = scene.held
    code = scene.sync(fault, **given)
    assert 0 < scene.struck <= most
    assert scene.held == before > 0
    return code


def _fatal_midway(scene: Scene, kind: FaultKind) -> int:
    """A fatal code as request number 40; only what is in the air then may follow it."""
    scene.world.sandbox.behaviour = replace(scene.world.behaviour, latency_seconds=0.02)
    code = scene.sync(Fault(kind, numbers=tuple(range(40, 1_000))), concurrency=8)
    assert len(scene.world.requests) < 40 + 8
    assert scene.world.one("select count(*) from internal.snapshots where outcome = 'success'") >= 40 - 8
    return code


STOPS = "stops at once: nothing new is asked, nothing is asked again; says what to mend"


@row("midway the key is refused", does=STOPS, code=3, held=BEFORE)
def key_refused(scene: Scene) -> int:
    return _fatal_midway(scene, FaultKind.REFUSE_KEY)


@row("midway this machine's IP is blocked", does=STOPS, code=3, held=BEFORE)
def ip_blocked(scene: Scene) -> int:
    return _fatal_midway(scene, FaultKind.IP_BLOCKED)


@row("midway this machine's IP is no more on the account's list", does=STOPS, code=3, held=BEFORE)
def ip_not_allowed(scene: Scene) -> int:
    return _fatal_midway(scene, FaultKind.IP_NOT_ALLOWED)


@row("midway the account is suspended", does=STOPS, code=3, held=BEFORE)
def suspended(scene: Scene) -> int:
    return _fatal_midway(scene, FaultKind.SUSPENDED)


@row("midway the balance is zero", does=STOPS, code=3, held=BEFORE)
def zero_balance(scene: Scene) -> int:
    return _fatal_midway(scene, FaultKind.ZERO_BALANCE)


@row("no such method at the URL", does=STOPS, code=3, held=NOTHING)
def no_such_method(scene: Scene) -> int:
    code = scene.sync_at(f"{scene.world.sandbox.url}/v9")
    assert len(scene.world.requests) == 1
    assert scene.held == 0
    return code


@row("no slot available", does=AGAIN, code=0, held=EVERYTHING)
def no_slot(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.NO_SLOT)


@row("an unknown error code once", does="asks once more after 5 s", code=0, held=EVERYTHING)
def unknown_code_once(scene: Scene) -> int:
    code = scene.sync(
        Fault(FaultKind.UNKNOWN_CODE, rate=0.3, attempts=(1,), days=tuple(ago(days) for days in range(1, 10)))
    )
    assert scene.struck > 5
    return code


@row(
    "an unknown error code for one window",
    does="asks once more after 5 s, then that window fails",
    code=1,
    held=THE_REST,
)
def unknown_code_for_one(scene: Scene) -> int:
    code = scene.sync(Fault(FaultKind.UNKNOWN_CODE, days=(ago(7),), queues=("Russian ImageToText",)))
    assert (scene.struck, scene.world.days("failed")) == (2, {ago(7)})
    return code


@row(
    "an unknown error code for everything",
    does="asks each window twice; after five in a row gives up",
    code=1,
    held=BEFORE,
)
def unknown_code_everywhere(scene: Scene) -> int:
    return _for_good(scene, Fault(FaultKind.UNKNOWN_CODE), concurrency=1, most=10)


# ---------------------------------------------------------------- answers with something wrong in them


@row(
    "once, a record that cannot be used (a negative volume, NaN)",
    does="asks once more after 5 s",
    code=0,
    held=EVERYTHING,
)
def bad_record_once(scene: Scene) -> int:
    kinds = (FaultKind.NAN, FaultKind.NEGATIVE_VOLUME)
    code = scene.sync(*(Fault(kind, rate=0.2, attempts=(1,)) for kind in kinds))
    assert scene.struck > 10
    assert scene.world.rows("select * from spending_rejections") == []
    return code


@row(
    "a record that can never be used",
    does="asks once more, keeps it with its reason in `spending_rejections`; that window fails",
    code=1,
    held=THE_REST,
)
def bad_record(scene: Scene) -> int:
    code = scene.sync(Fault(FaultKind.NEGATIVE_VOLUME, days=(ago(7),), queues=(None,)))
    assert (scene.struck, scene.world.days("failed")) == (2, {ago(7)})
    assert scene.world.one("select count(*) from spending_rejections") == 1
    return code


@row("once, hours of another day", does="asks once more after 5 s", code=0, held=EVERYTHING)
def other_hours_once(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.VENDOR_EXAMPLE)


@row("what is no JSON", does=AGAIN, code=0, held=EVERYTHING)
def no_json(scene: Scene) -> int:
    return _first_askings(scene, FaultKind.VENDOR_PAGE)


@row("once, no records where spend is held", does="asks once more before it is believed", code=0, held=EVERYTHING)
def no_records_once(scene: Scene) -> int:
    assert scene.sync() == 0
    days = tuple(ago(days) for days in range(1, 4))
    code = scene.sync(*(Fault(kind, days=days, attempts=(1,)) for kind in (FaultKind.NULL_DATA, FaultKind.NO_DATA)))
    assert scene.struck == len(days)
    return code


# ---------------------------------------------------------------- this machine


OPEN = "everything; no day is final until a run by a right clock"


@row(
    "the clock is days ahead",
    does="dates readings by the server's time, makes no day final, says so",
    code=0,
    held=OPEN,
)
def clock_ahead(scene: Scene) -> int:
    return _by_wrong_clock(scene, timedelta(days=3))


@row("the clock is days behind", does="reads the days that it knows of, makes none final, says so", code=0, held=OPEN)
def clock_behind(scene: Scene) -> int:
    return _by_wrong_clock(scene, timedelta(days=-3))


def _by_wrong_clock(scene: Scene, ahead: timedelta) -> int:
    scene.world.ahead = ahead
    code = scene.sync()
    assert scene.world.days("final") == set()
    scene.world.ahead = timedelta(0)
    return code


@row(
    "the clock jumps midway by days, ahead and back", does="makes no day final from then on, says so", code=0, held=OPEN
)
def clock_jumps(scene: Scene) -> int:
    world = scene.world
    world.sandbox.behaviour = replace(world.behaviour, latency_seconds=0.02)
    codes: list[int] = []
    running = threading.Thread(target=lambda: codes.append(scene.sync(concurrency=2)))
    running.start()
    for requests, ahead in ((20, 3), (40, -3), (60, 0)):
        while len(world.requests) < requests and running.is_alive():
            threading.Event().wait(0.005)
        world.ahead = timedelta(days=ahead)
    running.join()
    assert world.one("select count(*) from internal.findings where message like '%clock%'") == 1
    [code] = codes
    return code


@row(
    "an answer that the warehouse kept is damaged or gone, and its day is read again",
    does="asks the day's windows anew",
    code=0,
    held=EVERYTHING,
)
def lost_answer(scene: Scene) -> int:
    assert scene.sync() == 0
    before = scene.world.hourly()
    scene.world.rows("update internal.responses set body = 'damaged'::blob")
    code = scene.sync()
    assert scene.world.hourly() == before
    assert scene.world.one("select count(*) from spending_revisions") == 0
    return code


if __name__ == "__main__":
    print(MATRIX.table())
