"""FinOps's own validator accepts the conformant FOCUS recipe, except for one of two rules that contradict each other."""

import re
import subprocess
from datetime import timedelta
from pathlib import Path

import pytest

from tests.e2e.world import World, small
from tests.extended.environment import environment

pytestmark = pytest.mark.extended

CONTRADICTION = {"InvoiceId-C-004-C", "InvoiceId-C-005-C"}
"""One says that InvoiceId must be null, the other that it must not, and the validator applies both to every row."""


def failed_rules(folder: Path, recipe: str) -> set[str]:
    """Its exit code is 0 whatever fails, so its report is read. It opens a file of its own below its package's folder."""
    program = environment("focus", (3, 12), (3, 13)) / "focus-validator"
    [packages] = program.parents[1].glob("lib/python3.*/site-packages")
    with World(folder, small(10, corrections=True)) as world:
        world.sync()
        world.now += timedelta(days=1)
        world.sync()
        assert world.run("query", f"@cookbook/{recipe}", "-o", "focus.csv") == 0
    command = [str(program), "--data-file", str(folder / "focus.csv"), "--validate-version", "1.2", "--block-download"]
    shown = subprocess.run(command, cwd=packages, capture_output=True, text=True, check=False).stdout
    totals = re.search(r"Total: (\d+) \| Pass: (\d+) \| Fail: (\d+)", shown)
    assert totals, shown[-3000:]
    assert int(totals[2]) > 50
    return {*re.findall(r"(\S+): FAIL", shown)}


def test_the_validator_accepts_the_conformant_recipe(tmp_path: Path) -> None:
    assert failed_rules(tmp_path, "focus_1_2_conformant") < CONTRADICTION


def test_the_validator_finds_what_the_api_does_not_give(tmp_path: Path) -> None:
    assert "CostAndUsage-D-006-M" in failed_rules(tmp_path, "focus_cost_and_usage")
