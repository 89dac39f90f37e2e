"""The type of what alert rules report."""

from typing import NamedTuple


class Event(NamedTuple):
    """Something that an alert rule reports; it is the same event while rule and subject are the same."""

    kind: str
    rule: str
    subject: str
    message: str
