"""A million hostile answers over all cores: ``make fuzz``, ``make fuzz FUZZ=50000 SEED=7``.

Ends at the first broken promise: the seed, the shrunk bytes and the file they are kept in are printed, the exit code
is 1.
"""

import argparse
import hashlib
import multiprocessing
import random
import sys
import time
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path

from etl.extract import protocol
from tests.property.hostile import KINDS, NAMES, Came, made
from tests.property.oracle import judge

KEPT = Path(__file__).parents[1] / "property" / "hostile"
CHUNK = 2_500
MOST_SECONDS = 5.0
"""Of a core, for one answer and its judgement; ten thousand records take about one."""


@dataclass
class Tally:
    """What became of some answers. ``slowest``: seconds of a core, bytes, kind, seed."""

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


def failure(came: Came) -> str:
    """The promise that is broken for ``came``; empty when none is."""
    began = time.process_time()
    try:
        judge(came)
    except Exception as error:  # noqa: BLE001 - any exception at all is what is looked for
        return f"{type(error).__name__}: {error}"
    return "takes too long" if time.process_time() - began > MOST_SECONDS else ""


def tried(first: int, count: int) -> Tally:
    """The tally of the answers of these seeds, or of those up to the first broken promise."""
    tally = Tally()
    for seed in range(first, first + count):
        came = made(seed, kind_of(seed))
        began = time.process_time()
        try:
            outcome = judge(came)
        except Exception:  # noqa: BLE001 - named again, with its text, by ``failure``
            outcome = None
        spent = time.process_time() - began
        if outcome is None or spent > MOST_SECONDS:
            tally.broken = (kind_of(seed), seed)
            return tally
        tally.outcomes[outcome] += 1
        tally.size += len(came.body)
        tally.slowest = max(tally.slowest, (spent, len(came.body), kind_of(seed), seed))
    return tally


def shrunk(came: Came) -> Came:
    """The shortest body found that breaks the same promise: pieces of halving length are left out, again and again."""
    promise = failure(came)
    tries = 5_000

    def breaks(body: bytes) -> bool:
        nonlocal tries
        tries -= 1
        return tries > 0 and failure(came._replace(body=body)) == promise

    body, before = _without(came.body, breaks), came.body
    while len(body) < len(before):
        body, before = _without(body, breaks), body
    return came._replace(body=body)


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
    came = made(seed, kind)
    least = shrunk(came)
    KEPT.mkdir(exist_ok=True)
    path = KEPT / f"{kind}-{hashlib.sha256(least.body).hexdigest()[:8]}.bin"
    path.write_bytes(least.body)
    print(f"\nbroken promise: {failure(least)}\nkind {kind}, seed {seed}; kept as {path}")
    print(f"HTTP {least.status}, asked: {least.context}\nheaders: {least[2:5]!a}\n{least.body!r}")


def whole(seed: int, count: int) -> Tally:
    """The tally of all chunks, or of those before the first broken promise. Says on stderr how far it is."""
    chunks = [(at, min(CHUNK, seed + count - at)) for at in range(seed, seed + count, CHUNK)]
    began, tally = time.monotonic(), Tally()
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(tried, *chunk) for chunk in chunks]):
            tally.add(done.result())
            print(
                f"\r{tally.outcomes.total():10,} answers, {time.monotonic() - began:.0f} s",
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
                outcome, code if outcome != "api_error" or code in (protocol.WITHOUT_CODE, *NAMES) else "(another text)"
            ] += number
    spent, size, kind, seed = tally.slowest
    lines = [f"{count:,} answers, {tally.size / 1e6:,.1f} MB, {seconds:.0f} s; no promise broken", ""]
    lines += [
        f"  {outcome:38} {number:10,}  {100 * number / count:5.1f} %" for outcome, number in by_outcome.most_common()
    ]
    lines += ["", *(f"  {outcome:8} {code:29} {number:10,}" for (outcome, code), number in sorted(by_code.items()))]
    lines += ["", f"  slowest: {1000 * spent:.0f} ms of a core for {size:,} bytes ({kind}, seed {seed})"]
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("count", type=int, nargs="?", default=1_000_000)
    parser.add_argument(
        "--seed", type=int, default=None, help="of the first answer; another one each time when not given"
    )
    words = parser.parse_args()
    seed = random.SystemRandom().randrange(10**12) if words.seed is None else words.seed
    print(f"{words.count:,} answers from seed {seed} on", flush=True)
    began = time.monotonic()
    tally = whole(seed, words.count)
    if tally.broken:
        report_broken(*tally.broken)
        return 1
    print(table(tally, time.monotonic() - began))
    return 0


if __name__ == "__main__":
    sys.exit(main())
