"""Run doctor in a small world and read its report."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from etl.config import Environment
from etl.maintenance.diagnostics import Level
from etl.maintenance.doctor import DoctorReport, run_diagnostics
from etl.sandbox.behaviour import Behaviour, Fault
from tests.e2e.world import KEY, World, clock_without_waiting, small

DEFAULTS = Behaviour()


def diagnose(
    new_world: World, *, probe: bool = False, environ: Mapping[str, str] | None = None, **given: object
) -> DoctorReport:
    """Run doctor in the world's folder, with a clock that does not really sleep."""
    variables = (
        {"ANTICAPTCHA_CLIENT_KEY": KEY, "ANTICAPTCHA_API_URL": new_world.sandbox.url} if environ is None else environ
    )
    return run_diagnostics(
        given,
        Environment(variables, new_world.folder),
        clock_without_waiting(lambda: new_world.now + new_world.ahead),
        probe=probe,
    )


def levels(found: DoctorReport, name: str) -> list[Level]:
    return [one.level for one in found.diagnostics if one.name == name]


def text_of(found: DoctorReport, name: str) -> str:
    return " ".join(f"{one.message} {one.hint}" for one in found.diagnostics if one.name == name)


def answers_of(found: DoctorReport) -> dict[str, tuple[str, str]]:
    return {probe.question: (probe.answer, probe.certainty.value) for probe in found.probes}


def new_world(
    folder: Path, behaviour: Behaviour = DEFAULTS, *faults: Fault, days: int = 40, **dataset_options: Any
) -> World:
    return World(folder, small(days, 1, **dataset_options), behaviour, faults)
