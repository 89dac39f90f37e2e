"""The environment of the tools we compare with, created once from the pins of ``peers.txt``."""

import subprocess
import sys
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


def environment() -> Path:
    """Return the ``bin`` folder of ``.venv-peers``. Raises CalledProcessError if it cannot be created."""
    pins = Path(__file__).with_name("peers.txt")
    home = _ROOT / ".venv-peers"
    made = home / "made-from.txt"
    if not made.exists() or made.read_text() != pins.read_text():
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(home)], check=True)
        install = [str(home / "bin" / "python"), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*install, "-r", str(pins)], check=True)
        made.write_text(pins.read_text())
    return home / "bin"
