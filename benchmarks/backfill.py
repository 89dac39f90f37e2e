"""First sync of an account with 60 queues, 5 active on any day: number of requests and memory."""

import tempfile
from collections.abc import Iterator

from benchmarks.cost import python
from benchmarks.figure import Figure
from benchmarks.service import Account, serving


def measure(*, short: bool) -> Iterator[Figure]:
    requests: dict[int, float] = {}
    peaks: dict[int, float] = {}
    for days in (60, 90) if short else (182, 365, 730):
        account = Account(days, queues=60, at_once=5)
        with tempfile.TemporaryDirectory() as folder, serving(account) as url:
            cost = python("sync_once", folder, url, 8, *account)
        requests[days] = cost.result["requests"] / cost.result["lower_bound"]
        peaks[days] = cost.peak
    first, *_, last = peaks
    slope = (peaks[last] - peaks[first]) / (last - first) * 100
    name = f"{last} days, 5 of 60 queues"
    yield Figure(f"{name}, requests", requests[last], 1.6, floor="days + active pairs", of="by days", sizes=requests)
    yield Figure(f"{name}, memory", peaks[last], 200, "MB", of="MB, by days", sizes=peaks)
    yield Figure(f"{name}, growth of memory", slope, 1.5, "MB per 100 days")
