"""First sync of a year of 20 busy queues, against the cost of requests alone, and against dlt."""

import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from benchmarks import peers
from benchmarks.cost import Cost, cost, python
from benchmarks.figure import Figure
from benchmarks.service import Account, serving

CONCURRENCY = 16
"""Requests in flight; at most twice as many responses are uncommitted."""
LATENCY = 0.05
DAYS = (91, 182, 365)
SHORT = (5, 10, 20)


def measure(*, short: bool) -> Iterator[Figure]:
    accounts = [Account(days, queues=20, at_once=20) for days in (SHORT if short else DAYS)]
    rounds = 1 if short else 3
    name = f"{accounts[-1].days * 21:,} windows, 50 ms"
    slow: dict[int, list[float]] = {}
    for account in accounts:
        with serving(account, LATENCY) as url:
            costs = [_ours(url, account)[0] for _ in range(rounds if account is accounts[-1] else 1)]
        slow[costs[0].result["requests"]] = [one.seconds for one in costs]
    ratios = {requests: median(spent) / (requests * LATENCY / CONCURRENCY) for requests, spent in slow.items()}
    yield Figure(name, ratios[max(ratios)], 1.12, floor="requests by latency / 16", of="by windows", sizes=ratios)
    yield from _at_once(accounts, rounds, short=short)


def _at_once(accounts: list[Account], rounds: int, *, short: bool) -> Iterator[Figure]:
    name = f"{accounts[-1].days * 21:,} windows, 0 ms"
    seconds: dict[int, float] = {}
    for account in accounts:
        floors, ours, of_peer = [], [], []
        with serving(account) as url:
            for _ in range(rounds if account is accounts[-1] else 1):
                floors.append(python("floor", url, CONCURRENCY, *account).seconds)
                one, size = _ours(url, account)
                ours.append(one)
                if account is accounts[-1] and not short:
                    of_peer.append(_dlt(url, account))
        seconds[ours[0].result["requests"]] = median(one.seconds for one in ours)
    whole = median(one.seconds for one in ours)
    yield Figure(
        name, whole / median(floors), 1.7, floor="httpx threads, Decimal parse", of="s, by windows", sizes=seconds
    )
    yield Figure("  share spent in the database", median(one.result["database"] for one in ours) / whole, None)
    if of_peer:
        yield Figure(f"{name}, against dlt", whole / median(of_peer), 0.7, floor="dlt")
        yield Figure("  dlt itself", median(of_peer) / median(floors), None, floor="httpx threads, Decimal parse")
    facts = ours[0].result["inserted"]
    yield Figure(f"file, {facts:,} facts and their responses", size / facts, None, "bytes a fact")


def _ours(url: str, account: Account) -> tuple[Cost, int]:
    """Run one backfill; return its cost and the bytes of its file."""
    with tempfile.TemporaryDirectory() as folder:
        spent = python("sync_once", folder, url, CONCURRENCY, *account)
        return spent, (Path(folder) / "warehouse.duckdb").stat().st_size


def _dlt(url: str, account: Account) -> float:
    with tempfile.TemporaryDirectory() as folder:
        program = str(Path(__file__).with_name("peer_dlt.py"))
        first = int(account.now.replace(hour=0, minute=0).timestamp()) - 86_400 * (account.days - 1)
        arguments = (folder, url, str(CONCURRENCY), str(first), str(account.days), "\n".join(account.dataset.names))
        return cost(str(peers.environment() / "python"), program, *arguments, RUNTIME__DLTHUB_TELEMETRY="false").seconds
