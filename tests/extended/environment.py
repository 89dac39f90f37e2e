"""Virtual environments of programs whose dependencies conflict with ours.

Each is created once, beside ``.venv``, with the versions pinned in a file of this folder.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parents[2]
_TIMEOUT_SECONDS = 1800
"""Long enough to download everything on a slow connection."""

_CHECK_VERSION = "import sys, venv, ensurepip; sys.exit(not {} <= sys.version_info[:2] <= {})"


def environment(name: str, oldest: tuple[int, int], newest: tuple[int, int]) -> Path:
    """The ``bin`` folder of ``.venv-NAME``, with the packages of ``NAME.txt``, for a Python from oldest to newest.

    If it cannot be created, the test is skipped with the reason.
    """
    pins = Path(__file__).with_name(f"{name}.txt")
    home = _ROOT / f".venv-{name}"
    installed = home / "installed.txt"
    if not installed.exists() or installed.read_text() != pins.read_text():
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
            lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
            pytest.skip(f"{home.name} could not be created from {pins.name}: {lines[-1]}")
        installed.write_text(pins.read_text())
    return home / "bin"


def _python(oldest: tuple[int, int], newest: tuple[int, int]) -> str:
    """The newest suitable Python that runs. A name on the PATH may be a stub of a version manager."""
    names = [sys.executable, *(f"python3.{minor}" for minor in range(newest[1], oldest[1] - 1, -1))]
    for python in filter(None, map(shutil.which, names)):
        if (
            subprocess.run(
                [python, "-c", _CHECK_VERSION.format(oldest, newest)], capture_output=True, check=False
            ).returncode
            == 0
        ):
            return python
    pytest.skip(
        f"needs a Python from {oldest[0]}.{oldest[1]} to {newest[0]}.{newest[1]} that can make a virtual environment"
    )


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_TIMEOUT_SECONDS)
