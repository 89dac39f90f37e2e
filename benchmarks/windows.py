"""Backfills against the cost of requests alone: plain threads, the server's limit, a floor program, and dlt."""

import json
import tempfile
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from statistics import median

from benchmarks import compare
from benchmarks.cost import Cost, etl, in_turn, python, write_settings
from benchmarks.figure import Figure
from benchmarks.service import Account, serving

CONCURRENCY = 16
"""Requests in flight."""
LATENCY = 0.05
DAYS = (91, 182, 365)
SHORT = (5, 10, 20)


def measure(*, short: bool) -> Iterator[Figure]:
    rounds = 1 if short else 3
    yield _command_line(rounds, days=10 if short else 61)
    accounts = [Account(days, queues=20, at_once=20) for days in (SHORT if short else DAYS)]
    yield from _to_limit(accounts, CONCURRENCY, rounds)
    yield from _to_limit([Account(20 if short else 365, queues=1, at_once=1)], 8, rounds)
    yield from _at_once(accounts, rounds, short=short)


def _command_line(rounds: int, days: int) -> Figure:
    """The whole process of the real command line, at 611 requests: one probe, and ten windows for each of 61 days."""
    account = Account.today(days, queues=9)
    with serving(account, LATENCY) as url, tempfile.TemporaryDirectory() as folder:
        job = Path(folder) / "job.json"
        job.write_text(json.dumps({"url": url, "bodies": [*_bodies(account)]}))
        ours, plain = in_turn(
            rounds,
            lambda: backfill(url, account, CONCURRENCY).seconds,
            lambda: python("plain_threads", job, CONCURRENCY).seconds,
        )
    name = f"{days * 10 + 1} requests, 50 ms, {CONCURRENCY} at once, whole process"
    return Figure(name, ours / plain, 2.0, floor="plain threads, http.client", remark=f"{ours:.2f} s / {plain:.2f} s")


def _bodies(account: Account) -> Iterator[dict[str, object]]:
    midnight = account.now.replace(hour=0, minute=0, second=0, microsecond=0)
    yield {"clientKey": "any", "date": int(midnight.timestamp())}
    for age in range(account.days):
        day = int((midnight - timedelta(days=age)).timestamp())
        yield {"clientKey": "any", "date": day}
        yield from ({"clientKey": "any", "date": day, "queue": name} for name in account.dataset.names)


def backfill(url: str, account: Account, concurrency: int, folder: str | None = None) -> Cost:
    """Run ``sync`` over the account's history, in a new warehouse unless a folder is given."""
    with tempfile.TemporaryDirectory() as new:
        folder = folder or new
        write_settings(folder, queues=account.dataset.names)
        arguments = ("--since", account.begins, "--rate", 0, "--concurrency", concurrency)
        return etl(folder, "sync", *arguments, ANTICAPTCHA_API_URL=url)


def _to_limit(accounts: list[Account], concurrency: int, rounds: int) -> Iterator[Figure]:
    """Relative to what the latency alone takes."""
    ratios: dict[int, float] = {}
    for account in accounts:
        with serving(account, LATENCY) as url:
            runs = [_ours(url, account, concurrency)[0] for _ in range(rounds if account is accounts[-1] else 1)]
        requests = runs[0].result["requests"]
        limit = requests * LATENCY / concurrency
        ratios[requests] = median(one.seconds for one in runs) / limit
    name = f"{account.days * (1 + account.queues):,} windows, {account.queues} queues, 50 ms, {concurrency} at once"
    floor = f"requests by latency / {concurrency}"
    yield Figure(name, ratios[max(ratios)], 1.3, floor=floor, of="by windows", sizes=ratios)
    without_start = median(one.result["seconds"] for one in runs) / limit
    yield Figure("  the sync alone, without the start of the process", without_start, None, floor=floor)
    yield Figure("  processor time", median(one.cpu for one in runs) / requests * 1000, None, "ms per window")


def _at_once(accounts: list[Account], rounds: int, *, short: bool) -> Iterator[Figure]:
    name = f"{accounts[-1].days * 21:,} windows, 0 ms"
    seconds: dict[int, float] = {}
    for account in accounts:
        floors, ours, of_peer = [], [], []
        with serving(account) as url:
            for _ in range(rounds if account is accounts[-1] else 1):
                floors.append(python("floor", url, CONCURRENCY, *account))
                one, size = _ours(url, account, CONCURRENCY)
                ours.append(one)
                if account is accounts[-1] and not short:
                    of_peer.append(compare.dlt_seconds(url, account))
        seconds[ours[0].result["requests"]] = median(one.seconds for one in ours)
    whole, floor = (median(one.seconds for one in runs) for runs in (ours, floors))
    yield Figure(name, whole / floor, 1.9, floor="httpx threads, Decimal parse", of="s, by windows", sizes=seconds)
    processor, of_floor = (median(one.cpu for one in runs) for runs in (ours, floors))
    yield Figure("  processor time", processor / max(seconds) * 1000, None, "ms per window")
    yield Figure("  processor time", processor / of_floor, None, floor="httpx threads, Decimal parse")
    yield Figure("  share spent in the database", median(one.result["database"] for one in ours) / whole, None)
    if of_peer:
        yield Figure(f"{name}, against dlt", whole / median(of_peer), 0.9, floor="dlt")
        yield Figure("  dlt itself", median(of_peer) / floor, None, floor="httpx threads, Decimal parse")
    facts = ours[0].result["inserted"]
    yield Figure(f"file, {facts:,} facts and their responses", size / facts, None, "bytes a fact")


def _ours(url: str, account: Account, concurrency: int) -> tuple[Cost, int]:
    """Run one backfill at the fixed time; return its cost and the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        spent = python("sync_once", folder, url, concurrency, *account)
        return spent, (Path(folder) / "warehouse.duckdb").stat().st_size
