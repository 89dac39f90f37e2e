"""Check generated responses on all cores: ``make fuzz DOORS=responses``.

Stops at the first failure with exit code 1 and prints the seed, the minimized bytes and the file that has them.
"""

import hashlib
import multiprocessing
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from etl.extract import protocol
from tests.property.hostile import KINDS, NAMES, HttpResponse, generate
from tests.property.oracle import compare

STORED_BODIES = Path(__file__).parents[1] / "property" / "hostile"
CHUNK_SIZE = 2_500
MAX_SECONDS = 5.0
"""CPU time for one response and its comparison; ten thousand records take about one second."""


@dataclass
class Tally:
    """Counted outcomes. ``slowest``: CPU seconds, bytes, kind, seed."""

    outcomes: Counter[tuple[str, str]] = field(default_factory=Counter)
    slowest: tuple[float, int, str, int] = (0.0, 0, "", 0)
    size: int = 0
    broken: tuple[str, int] | None = None

    def add(self, other: "Tally") -> None:
        self.outcomes += other.outcomes
        self.slowest = max(self.slowest, other.slowest)
        self.size += other.size
        self.broken = self.broken or other.broken


def kind_of(seed: int) -> str:
    return KINDS[seed % len(KINDS)]


def failure(response: HttpResponse) -> str:
    """Return the promise that the program breaks for this response, or an empty text."""
    started = time.process_time()
    try:
        compare(response)
    except Exception as error:  # noqa: BLE001 - any exception is a failure
        return f"{type(error).__name__}: {error}"
    return "takes too long" if time.process_time() - started > MAX_SECONDS else ""


def run_seeds(first: int, count: int) -> Tally:
    """Count the outcomes of these seeds, up to the first failure."""
    tally = Tally()
    for seed in range(first, first + count):
        response = generate(seed, kind_of(seed))
        started = time.process_time()
        try:
            outcome = compare(response)
        except Exception:  # noqa: BLE001 - ``failure`` reports it later
            outcome = None
        spent = time.process_time() - started
        if outcome is None or spent > MAX_SECONDS:
            tally.broken = (kind_of(seed), seed)
            return tally
        tally.outcomes[outcome] += 1
        tally.size += len(response.body)
        tally.slowest = max(tally.slowest, (spent, len(response.body), kind_of(seed), seed))
    return tally


def minimized(response: HttpResponse) -> HttpResponse:
    """Return the shortest body found with the same failure, by removing pieces of decreasing length again and again."""
    promise = failure(response)
    attempts = 5_000

    def breaks(body: bytes) -> bool:
        nonlocal attempts
        attempts -= 1
        return attempts > 0 and failure(response._replace(body=body)) == promise

    body, before = _without(response.body, breaks), response.body
    while len(body) < len(before):
        body, before = _without(body, breaks), body
    return response._replace(body=body)


def _without(body: bytes, breaks: Callable[[bytes], bool]) -> bytes:
    length = len(body)
    while length := length // 2:
        at = 0
        while at < len(body):
            shorter = body[:at] + body[at + length :]
            if breaks(shorter):
                body = shorter
            else:
                at += length
    return body


def report_broken(kind: str, seed: int) -> None:
    response = generate(seed, kind)
    minimal = minimized(response)
    STORED_BODIES.mkdir(exist_ok=True)
    path = STORED_BODIES / f"{kind}-{hashlib.sha256(minimal.body).hexdigest()[:8]}.bin"
    path.write_bytes(minimal.body)
    print(f"\nbroken promise: {failure(minimal)}\nkind {kind}, seed {seed}; kept as {path}")
    print(f"HTTP {minimal.status}, request: {minimal.context}\nheaders: {minimal[2:5]!a}\n{minimal.body!r}")


def run_all(seed: int, count: int) -> Tally:
    """Count the outcomes of all chunks up to the first failure, with progress on stderr."""
    chunks = [(at, min(CHUNK_SIZE, seed + count - at)) for at in range(seed, seed + count, CHUNK_SIZE)]
    started, tally = time.monotonic(), Tally()
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run_seeds, *chunk) for chunk in chunks]):
            tally.add(done.result())
            print(
                f"\r{tally.outcomes.total():10,} responses, {time.monotonic() - started:.0f} s",
                end="",
                file=sys.stderr,
                flush=True,
            )
            if tally.broken:
                pool.shutdown(cancel_futures=True)
                break
    print(file=sys.stderr)
    return tally


def table(tally: Tally, seconds: float) -> str:
    count = tally.outcomes.total()
    by_outcome: Counter[str] = Counter()
    by_code: Counter[tuple[str, str]] = Counter()
    for (outcome, code), number in tally.outcomes.items():
        by_outcome[outcome] += number
        if code:
            by_code[
                outcome, code if outcome != "api_error" or code in (protocol.WITHOUT_CODE, *NAMES) else "(other text)"
            ] += number
    spent, size, kind, seed = tally.slowest
    lines = [f"{count:,} responses, {tally.size / 1e6:,.1f} MB, {seconds:.0f} s; no promise broken", ""]
    lines += [
        f"  {outcome:38} {number:10,}  {100 * number / count:5.1f} %" for outcome, number in by_outcome.most_common()
    ]
    lines += ["", *(f"  {outcome:8} {code:29} {number:10,}" for (outcome, code), number in sorted(by_code.items()))]
    lines += ["", f"  slowest: {1000 * spent:.0f} ms CPU for {size:,} bytes ({kind}, seed {seed})"]
    return "\n".join(lines)


def main(count: int, seed: int) -> int:
    """Check responses and print a table; return the exit code."""
    print(f"{count:,} responses from seed {seed}", flush=True)
    started = time.monotonic()
    tally = run_all(seed, count)
    if tally.broken:
        report_broken(*tally.broken)
        return 1
    print(table(tally, time.monotonic() - started))
    return 0
