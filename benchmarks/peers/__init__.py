"""The tools the benchmarks compare with: each in an environment of its own, created once from its pins."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[2]


def environment(name: str) -> Path:
    """Return the ``bin`` folder of ``.venv-NAME``, made from ``NAME.txt``. Raises CalledProcessError."""
    pins = Path(__file__).with_name(f"{name}.txt")
    home = _ROOT / f".venv-{name}"
    made = home / "made-from.txt"
    if not made.exists() or made.read_text() != pins.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(pins)], check=True)
        made.write_text(pins.read_text())
    return home / "bin"


def program(name: str) -> str:
    """Return the path of a program of this folder."""
    return str(Path(__file__).with_name(f"{name}.py"))
