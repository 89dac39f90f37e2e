"""Where ``sql`` and ``migrations`` are: at the top of the repository, or inside the installed package."""

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: Literal["migrations", "sql"]) -> Path:
    installed = _PACKAGE / name
    return installed if installed.is_dir() else _PACKAGE.parent / name
