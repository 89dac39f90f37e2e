"""Format a doctor report as text and as JSON. Neither contains the key, its hash or the path of its file."""

from collections.abc import Iterable

from rich.cells import cell_len

from etl import __version__
from etl.config import SETTINGS
from etl.maintenance.diagnostics import Diagnostic, Level
from etl.maintenance.doctor import DoctorReport
from etl.maintenance.probes import Confidence, ProbeResult
from etl.outputs.serialize import as_json, plain
from etl.outputs.text_tables import printable, table

MAX_WIDTH = 80


def as_text(report: DoctorReport) -> str:
    text = _table(
        (one.name, one.level, f"{one.message}\nhint: {one.hint}" if one.hint else one.message)
        for one in report.diagnostics
    )
    if report.probes:
        latest = max(probe.seen_at for probe in report.probes)
        text += f"\nAPI behaviour, last probed {latest:%Y-%m-%d %H:%M} UTC\n"
        open_last = sorted(report.probes, key=lambda probe: probe.certainty is Confidence.OPEN)
        text += _table((probe.question, probe.certainty, probe.answer) for probe in open_last)
    elif not report.exit_code:
        text += "\nTo probe how the API behaves where its documentation is silent, run:\n"
        text += "  anticaptcha-etl doctor --probe\n"
    return f"{text}\n{_conclusion(report)}\n"


def _table(rows: Iterable[tuple[str, str, str]]) -> str:
    cells = [[printable(cell) for cell in row] for row in rows]
    first, second, _ = (max(map(cell_len, column)) for column in zip(*cells, strict=True))
    return table(cells, [first, second, MAX_WIDTH - first - second - 4])


def _conclusion(report: DoctorReport) -> str:
    counts = {level: sum(one.level is level for one in report.diagnostics) for level in (Level.PROBLEM, Level.WARNING)}
    found = ", ".join(f"{count} {level}{'' if count == 1 else 's'}" for level, count in counts.items() if count)
    return f"{found} found." if found else "No problems found."


def to_json(report: DoctorReport) -> str:
    """Return the report as JSON, with every setting and its source except the key. Keys may be added, never renamed."""
    fields = {
        "version": __version__,
        "now": report.now,
        "exit_code": report.exit_code,
        "requests": report.requests,
        "advice": [_diagnostic_fields(diagnostic) for diagnostic in report.diagnostics],
        "settings": {
            name: {"value": one.value, "source": one.source}
            for one in report.settings
            for name in (one.name, SETTINGS[one.name].old_name)
            if name
        },
        "probes": [_probe_fields(probe) for probe in report.probes],
    }
    return as_json(plain(fields)) + "\n"


def _diagnostic_fields(one: Diagnostic) -> dict[str, object]:
    return {"name": one.name, "state": one.level, "found": one.message, "remedy": one.hint, "exit_code": one.exit_code}


def _probe_fields(probe: ProbeResult) -> dict[str, object]:
    names = {"dimension": "cut", "window_start": "date"}
    return {names.get(name, name): value for name, value in probe._asdict().items()}
