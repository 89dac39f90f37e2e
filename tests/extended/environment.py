"""Environments of other programs, which cannot share ours: each is made once, beside ``.venv``, from the pins of a
file here."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_SECONDS = 1800
"""In which everything must have been downloaded."""

_FITS = "import sys, venv, ensurepip; sys.exit(not {} <= sys.version_info[:2] <= {})"


def environment(name: str, oldest: tuple[int, int], newest: tuple[int, int]) -> Path:
    """The ``bin`` of ``.venv-NAME``, which holds what ``NAME.txt`` pins, for one of these Pythons.

    Where it cannot be made the test is skipped, and says why.
    """
    pins = Path(__file__).with_name(f"{name}.txt")
    home = _ROOT / f".venv-{name}"
    made = home / "made-from.txt"
    if not made.exists() or made.read_text() != pins.read_text():
        try:
            _run(_python(oldest, newest), "-m", "venv", "--clear", str(home))
            _run(
                str(home / "bin" / "python"),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "-r",
                str(pins),
            )
        except subprocess.SubprocessError as error:
            said = str(getattr(error, "stderr", None) or error).strip().splitlines()
            pytest.skip(f"{home.name} could not be made from {pins.name}: {said[-1]}")
        made.write_text(pins.read_text())
    return home / "bin"


def _python(oldest: tuple[int, int], newest: tuple[int, int]) -> str:
    """The newest that fits and really runs: a name on the PATH may be a version manager's stub."""
    names = [sys.executable, *(f"python3.{minor}" for minor in range(newest[1], oldest[1] - 1, -1))]
    for python in filter(None, map(shutil.which, names)):
        if (
            subprocess.run([python, "-c", _FITS.format(oldest, newest)], capture_output=True, check=False).returncode
            == 0
        ):
            return python
    pytest.skip(
        f"needs a Python from {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]} that can make a virtual environment"
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
