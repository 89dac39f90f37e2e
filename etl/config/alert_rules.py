"""The ``[[alerts]]`` of the configuration file."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from typing import Literal

from etl.config import values
from etl.errors import UsageError

Period = Literal["day", "week", "month"]


@dataclass(frozen=True, slots=True)
class AlertRule:
    """One rule; the fields that its kind does not use have their defaults. Money is US dollars.

    ``text`` is the rule in one line; a rule with another text is another rule, and its events are new ones.
    """

    kind: str
    text: str
    account: str | None = None
    queue: str | None = None
    usd: Decimal = Decimal(0)
    period: Period = "month"
    at: tuple[int, ...] = ()
    forecast: bool = False
    days: float = 0
    hours: float = 0
    percent: float = 0


def _usd(value: object) -> Decimal:
    try:
        found = Decimal(str(value))
    except InvalidOperation:
        found = Decimal(0)
    if isinstance(value, bool) or not found.is_finite() or found <= 0:
        raise ValueError("it must be an amount of US dollars above 0")
    return found


def _period(value: object) -> Period:
    if value not in ("day", "week", "month"):
        raise ValueError('it must be "day", "week" or "month"')
    return value


def _percents(value: object) -> tuple[int, ...]:
    items = value if isinstance(value, list) else [value]
    return tuple(sorted({values.whole_number(1, 1000, "percent")(item) for item in items}))


def _above_zero(unit: str) -> Callable[[object], float]:
    def read(value: object) -> float:
        number = values.number_of(unit)(value)
        if not number:
            raise ValueError(f"it must be a number of {unit} above 0")
        return number

    return read


_REQUIRED = object()

_KEYS: Mapping[str, Mapping[str, tuple[Callable[[object], object], object]]] = {
    "budget": {
        "usd": (_usd, _REQUIRED),
        "period": (_period, "month"),
        "queue": (values.text, None),
        "at": (_percents, (80, 100)),
        "forecast": (values.boolean, True),
    },
    "runway": {"days": (_above_zero("days"), _REQUIRED)},
    "anomaly": {"usd": (_usd, Decimal("0.3"))},
    "stale": {"hours": (_above_zero("hours"), Decimal(30))},
    "price": {"percent": (_above_zero("percent"), Decimal(10)), "queue": (values.text, None)},
    "unattributed": {"percent": (_above_zero("percent"), Decimal(5))},
}
"""By kind and key: how to read the value, and its default."""


def read_rules(found: object, path: object) -> tuple[AlertRule, ...]:
    """Check the value of ``alerts``. Raises UsageError that says which rule and key is wrong."""
    if not isinstance(found, list) or not all(isinstance(one, dict) for one in found):
        raise UsageError(f"alerts in {path} is not a list of tables", "write [[alerts]] above the keys of each rule")
    return tuple(_read_rule(table, f"[[alerts]] number {number} in {path}") for number, table in enumerate(found, 1))


def _read_rule(table: Mapping[str, object], place: str) -> AlertRule:
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in _KEYS:
        raise UsageError(f"{place}: kind is {values.format_value(kind)}", f"use one of {', '.join(_KEYS)}")
    keys = _KEYS[kind]
    if unknown := [key for key in table if key not in (*keys, "kind", "account")]:
        known = ", ".join(("account", *keys))
        raise UsageError(f"{place}: {unknown[0]} is not a key of kind {kind}", f"its keys: {known}")
    read: dict[str, object] = {}
    for key, (parse, default) in {"account": (values.name, None), **keys}.items():
        if key not in table and default is _REQUIRED:
            raise UsageError(f"{place}: {key} is missing", f"add {key} = ... below it")
        try:
            read[key] = parse(table[key]) if key in table else default
        except ValueError as error:
            shown = values.format_value(table[key])
            raise UsageError(f"{place}: {key} is {shown}: {error}", "fix the rule") from error
    text = " ".join((kind, *(f"{key}={values.format_value(table[key])}" for key in keys if key in table)))
    return AlertRule(kind, text, **read)  # type: ignore[arg-type]  # each value was read by its own function
