"""An examination for people and for programs. Neither holds a key, its hash or the path of its file."""

from collections.abc import Iterable
from dataclasses import asdict
from io import StringIO

from rich.console import Console
from rich.table import Table
from rich.text import Text

from etl import __version__
from etl.maintenance.diagnostics import Diagnostic, Level
from etl.maintenance.doctor import DoctorReport
from etl.maintenance.probes import Confidence, ProbeResult
from etl.outputs.serialize import as_json

_WIDTH = 80


def as_text(found: DoctorReport) -> str:
    """For a terminal, at most 80 columns wide."""
    out = StringIO()
    console = Console(file=out, width=_WIDTH, color_system=None, highlight=False, markup=False)
    console.print(_grid((one.name, one.state, _with_remedy(one)) for one in found.advice))
    if found.probes:
        console.print(
            f"\nWhat the service does, as of {max(probe.seen_at for probe in found.probes):%Y-%m-%d %H:%M} UTC"
        )
        console.print(_grid((probe.question, probe.certainty, probe.answer) for probe in _told(found.probes)))
    elif not found.exit_code:
        console.print("\nTo ask the service itself what nobody has written down: anticaptcha-etl doctor --probe")
    console.print(f"\n{_verdict(found)}")
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def _grid(rows: Iterable[tuple[str, str, str]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(overflow="fold")
    for row in rows:
        table.add_row(
            *(Text("".join(sign if sign.isprintable() or sign == "\n" else " " for sign in text)) for text in row)
        )
    return table


def _with_remedy(one: Diagnostic) -> str:
    return f"{one.found}\n-> {one.hint}" if one.hint else one.found


def _told(probes: Iterable[ProbeResult]) -> list[ProbeResult]:
    """Answers first, what is still open last."""
    return sorted(probes, key=lambda probe: probe.certainty is Confidence.OPEN)


def _verdict(found: DoctorReport) -> str:
    counts = [(sum(one.state is state for one in found.advice), state) for state in (Level.PROBLEM, Level.WARNING)]
    said = ", ".join(f"{count} {state}{'' if count == 1 else 's'}" for count, state in counts if count)
    return said or "nothing to mend"


def to_json(found: DoctorReport) -> str:
    """The same for programs: fields by their names; every setting with its source, the key excepted. Keys are only ever added."""
    settings = {one.name: {"value": one.value, "source": one.source} for one in found.settings}
    fields = {
        "version": __version__,
        "now": found.now,
        "exit_code": found.exit_code,
        "requests": found.requests,
        "advice": [{**asdict(one), "state": one.state.value} for one in found.advice],
        "settings": settings,
        "probes": [_fields(probe) for probe in found.probes],
    }
    return as_json(fields) + "\n"


def _fields(probe: ProbeResult) -> dict[str, object]:
    return {
        "question": probe.question,
        "answer": probe.answer,
        "certainty": probe.certainty.value,
        "cut": probe.series.dimension.value if probe.series else None,
        "member": probe.series.member if probe.series else None,
        "date": probe.window_start,
        "status": probe.status,
        "seen_at": probe.seen_at,
    }
