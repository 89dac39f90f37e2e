"""Check the inputs of a door on all cores, and shorten one that breaks a promise."""

import logging
import multiprocessing
import random
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor, as_completed
from contextlib import closing
from pathlib import Path
from typing import NamedTuple

from tests.fuzz.door import Door
from tests.fuzz.journal import JournalDoor
from tests.fuzz.settings import Settings
from tests.fuzz.sql import Sql

DOORS: dict[str, type[Door]] = {door.name: door for door in (Settings, JournalDoor, Sql)}
CHUNK_SIZE = 2_000
MAX_TRIES = 3_000


class Failure(NamedTuple):
    seed: int
    reason: str
    content: bytes


def run(name: str, first: int, count: int) -> tuple[Counter[str], Failure | None]:
    """Check the inputs of some seeds; return the outcomes, and the first failure."""
    logging.getLogger("etl").setLevel(logging.CRITICAL)
    outcomes = Counter[str]()
    with tempfile.TemporaryDirectory() as folder, closing(DOORS[name](Path(folder))) as door:
        for seed in range(first, first + count):
            content = door.make(random.Random(seed))
            try:
                outcomes[door.check(content)] += 1
            except Exception as error:  # noqa: BLE001 - any exception is a failure
                return outcomes, Failure(seed, _reason(error), _shortest(door, content, _reason(error)))
        try:
            door.finish()
        except Exception as error:  # noqa: BLE001
            return outcomes, Failure(first, f"within {count} inputs: {_reason(error)}", b"")
    return outcomes, None


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"


def _shortest(door: Door, content: bytes, reason: str) -> bytes:
    """Remove pieces as long as the same promise stays broken."""
    tries, length = MAX_TRIES, len(content)
    while length := length // 2:
        at = 0
        while at < len(content) and tries:
            tries -= 1
            shorter = content[:at] + content[at + length :]
            try:
                door.check(shorter)
                is_same = False
            except Exception as error:  # noqa: BLE001
                is_same = _reason(error)[:40] == reason[:40]
            content, at = (shorter, at) if is_same else (content, at + length)
    return content


def run_all(name: str, seed: int, count: int) -> Failure | None:
    """Check one door on all cores, print the outcomes, and return the first failure."""
    chunks = [(at, min(CHUNK_SIZE, seed + count - at)) for at in range(seed, seed + count, CHUNK_SIZE)]
    outcomes, began, failure = Counter[str](), time.monotonic(), None
    with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
        for done in as_completed([pool.submit(run, name, *chunk) for chunk in chunks]):
            found, failure = done.result()
            outcomes += found
            if failure:
                pool.shutdown(cancel_futures=True)
                break
    counts = ", ".join(f"{number:,} {outcome}" for outcome, number in outcomes.most_common())
    print(
        f"{name}: {outcomes.total():,} inputs from seed {seed}, {time.monotonic() - began:.0f} s: {counts}", flush=True
    )
    return failure
