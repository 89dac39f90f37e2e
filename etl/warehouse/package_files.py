"""Finds the folders that stand at the top of the repository and ride inside the installed package."""

from pathlib import Path
from typing import Literal

_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: Literal["migrations", "sql"]) -> Path:
    """The folder itself: inside the package where a wheel put it, else beside it, as in a checkout."""
    inside = _PACKAGE / name
    return inside if inside.is_dir() else _PACKAGE.parent / name
