"""Find the responses that an earlier run received and did not commit."""

import logging
from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

from etl.extract import planner
from etl.extract.journal import Segment, read_journals, set_aside
from etl.models import SPLIT_DIMENSIONS, TOTAL, DayState, Dimension, Finding, Severity, Snapshot
from etl.responses import Response
from etl.sync.request_loop import Received

log = logging.getLogger(__name__)


def usable_segments(prefix: Path | None, identity: str) -> list[Segment]:
    """Return the segments that belong to the account with this identity; set all others aside.

    Raises WarehouseError if the folder does not allow it.
    """
    usable = []
    for segment in read_journals(prefix) if prefix else ():
        problem = segment.problem
        if not problem and segment.header and segment.header.identity != identity:
            problem = f"is of another account or warehouse ({segment.header.account})"
        if problem:
            log.warning("%s %s; it is kept as %s and not loaded", segment.path, problem, set_aside(segment))
        else:
            usable.append(segment)
        if segment.damaged_bytes:
            log.warning("%s: %d bytes at its end are damaged and not loaded", segment.path, segment.damaged_bytes)
    return usable


def groups_in_order(
    received: Sequence[Received], concurrency: int
) -> Iterator[tuple[list[Received], frozenset[Dimension]]]:
    """Group responses that can be applied after one reconcile; with each, dimensions whose unknown names are settled.

    Names are judged by the probe received before them. A run that is uncertain what the API returns for unknown
    names sends nothing but the probe, so only what was in flight at its end can still be uncertain.
    """
    earlier, last = received[:-concurrency], received[-concurrency:]
    probed = {one.window.series.dimension for one in earlier if is_probe(one)}
    for part, settled in ((earlier, {*SPLIT_DIMENSIONS}), (last, probed)):
        for are_probes, group in groupby(part, is_probe):
            same = list(group)
            for one in ([one] for one in same) if are_probes else planner.group_by_day(same):
                yield one, frozenset(settled)
            settled |= {one.window.series.dimension for one in same if are_probes}


def is_probe(received: Received) -> bool:
    """True if the request was for a name that cannot exist."""
    return received.window.series in planner.NONEXISTENT_MEMBERS.values()


def would_empty(day_state: DayState, snapshot: Snapshot) -> bool:
    """True for an empty response although spend is stored: it is requested again, and twice, before it counts."""
    series = snapshot.window.series
    had_spend = day_state.has_spend if series == TOTAL else series in day_state.active_members
    return had_spend and snapshot.is_success and not snapshot.has_records


def is_no_longer_returned(state: planner.PlannerState, day_state: DayState, snapshot: Snapshot) -> bool:
    """True if a final day with spend that was to be checked comes back without any: the API may no longer have it."""
    window, day = snapshot.window, snapshot.window.day
    is_total = window.series == TOTAL and not window.is_partial_day
    is_check = is_total and (day in state.spot_checks or day in state.rechecks)
    return is_check and snapshot.is_success and day_state.has_spend and not snapshot.values.has_spend


def describe(segments: Sequence[Segment], responses: Sequence[Response], run: int) -> Finding | None:
    """Log what was loaded. Return a finding if the warehouse is older than its journal; ``run`` is the current run."""
    if responses:
        log.info("loaded %d responses that an earlier run had received and not committed", len(responses))
    newest = max((segment.header.run for segment in segments if segment.header), default=0)
    if newest < run:
        return None
    message = (
        f"the journal is from run {newest}, but the warehouse knows no run after {run - 1}: an older copy of the "
        f"warehouse was put back. The {len(responses)} responses of the journal are loaded; days that the copy does "
        "not have are requested again"
    )
    return Finding("the warehouse is as new as its journal", Severity.WARNING, message)
