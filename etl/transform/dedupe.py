"""One record an hour: says which of several wins."""

from collections.abc import Sequence
from itertools import groupby, pairwise

from etl.models import Record, Rejection


def deduplicate_hours(records: Sequence[tuple[Record, str]]) -> tuple[tuple[Record, ...], tuple[Rejection, ...]]:
    """Records with their raw texts → one of each hour in order of time, and those that lost. The order given does not
    matter.

    Identical repeats collapse. Else larger volume, then larger money wins: an open book only grows.
    """
    if all(
        earlier.hour_start < later.hour_start for (earlier, _), (later, _) in pairwise(records)
    ):  # as of nearly all answers
        return tuple(record for record, _ in records), ()
    kept: list[Record] = []
    lost: list[Rejection] = []
    for _, same_hour in groupby(sorted(records), key=lambda pair: pair[0].hour_start):
        distinct = dict(reversed(list(same_hour)))  # of one record's several spellings the first in order stays
        winner, *losers = distinct
        kept.append(winner)
        reason = f"another record of this hour has more: volume {winner.volume}, money {winner.money:f}"
        lost += [Rejection(reason, distinct[loser], loser.hour_start) for loser in losers]
    return tuple(kept), tuple(lost)
