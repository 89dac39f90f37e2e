"""Where a command runs."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

PREFIX = "ANTICAPTCHA_"
"""Start of every environment variable that this program reads."""
CONFIG_NAME = "anticaptcha-etl.toml"
"""Configuration file that is read if it exists in the working directory."""


@dataclass(frozen=True, slots=True)
class Environment:
    """Environment variables and working directory."""

    environ: Mapping[str, str] = field(repr=False)
    """Not in the repr: it contains the client key."""
    folder: Path
    """Relative paths on the command line and in variables start here."""

    @property
    def state_folder(self) -> Path:
        """Where programs of this user keep state, as the XDG Base Directory Specification says: it must be absolute."""
        named = Path(self.environ.get("XDG_STATE_HOME", ""))
        home = self.environ.get("HOME") or os.path.expanduser("~")  # noqa: PTH111 - never raises, unlike Path's
        return named if named.is_absolute() else Path(home, ".local", "state")

    @classmethod
    def here(cls) -> "Environment":
        return cls(os.environ, Path.cwd())


def set_default(name: str, value: str) -> None:
    """Set a variable of this process for a library that reads it, unless it is set."""
    os.environ.setdefault(name, value)


def resolve_path(folder: Path, path: str) -> Path:
    """Return the path, relative to ``folder`` unless it is absolute or starts with ``~``."""
    return folder / Path(path).expanduser()
