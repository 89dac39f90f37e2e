"""Decide which record counts if a response has several for one hour."""

from collections.abc import Sequence
from itertools import groupby, pairwise

from etl.models import Record, Rejection


def deduplicate_hours(records: Sequence[tuple[Record, str]]) -> tuple[tuple[Record, ...], tuple[Rejection, ...]]:
    """Take records with their raw texts in any order; return one record an hour, in order of time, and the others.

    Equal records collapse. Otherwise the larger volume wins, then the larger money: an hour that is still running only
    grows.
    """
    if all(one.hour_start < other.hour_start for (one, _), (other, _) in pairwise(records)):  # nearly every response
        return tuple(record for record, _ in records), ()
    unique: list[Record] = []
    rejected: list[Rejection] = []
    for _, same_hour in groupby(sorted(records), key=lambda pair: pair[0].hour_start):
        raw_by_record = dict(reversed(list(same_hour)))  # of equal records, the first raw text in order is kept
        winner, *others = raw_by_record
        unique.append(winner)
        reason = f"another record of this hour has more: volume {winner.volume}, money {winner.money:f}"
        rejected += [Rejection(reason, raw_by_record[record], record.hour_start) for record in others]
    return tuple(unique), tuple(rejected)
