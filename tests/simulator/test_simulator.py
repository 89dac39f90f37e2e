"""Years of nights; a failure prints the shortest life and the command that repeats it."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulator import planted

SEED = "20261127"
"""The same nights on each day: a fault that other nights find should not stop an unrelated change. ``make simulate`` plays
others each day."""

ROOT = Path(__file__).resolve().parents[2]


def simulate(*arguments: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, "-m", "tests.simulator", "--jobs", "1", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


@pytest.mark.parametrize("part", [pytest.param(1, marks=pytest.mark.slow), pytest.param(2, marks=pytest.mark.long)])
def test_years_of_nights_with_faults_and_kills_keep_every_promise(part: int) -> None:
    result = simulate("--years", "1", "--nights-of-a-year", "280", "--seed", f"{SEED}-{part}")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_nights_on_a_duckdb_file_keep_every_promise() -> None:
    result = simulate("--years", "1", "--nights-of-a-year", "20", "--seed", SEED, "--store", "duckdb")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.long
@pytest.mark.server
def test_nights_on_a_postgresql_database_keep_every_promise() -> None:
    result = simulate("--years", "1", "--seed", SEED, "--store", "postgresql")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.slow
def test_a_life_is_the_same_whenever_it_is_played() -> None:
    first, second = (simulate("--years", "1", "--nights-of-a-year", "30", "--seed", SEED) for _ in range(2))
    assert first.stdout.partition(",")[2].rpartition(",")[0], first.stderr
    assert _without_times(first.stdout) == _without_times(second.stdout)


def _without_times(output: str) -> list[str]:
    return [
        part
        for line in output.splitlines()
        for part in line.split(", ")
        if not part.endswith((" s", "processor time", "a second"))
    ]


@pytest.mark.long
def test_twenty_more_years_keep_every_promise() -> None:
    result = simulate("--years", "20", "--seed", f"{SEED}-long")
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.mark.long
@pytest.mark.parametrize("bug", planted.BUGS)
def test_each_planted_bug_is_found(bug: str) -> None:
    result = simulate("--years", "20", "--seed", SEED, "--planted", bug, "--store", planted.BUGS[bug].store)
    assert result.returncode == 1, f"{planted.BUGS[bug].text}: not found\n{result.stdout}"
    assert "repeat it with: " in result.stdout, result.stderr
