"""Who can access a file."""

from pathlib import Path
from typing import NamedTuple

SECRET_MOUNTS = (Path("/run/secrets"), Path("/run/credentials"))
"""Where containers and systemd mount secrets. The user cannot choose file modes there, and no other user has access."""


class FilePermissionWarning(NamedTuple):
    """A problem with a file's permissions, with a hint."""

    what: str
    hint: str

    def __str__(self) -> str:
        return f"{self.what}: {self.hint}"


def everyone_can(mode: int, file: Path) -> bool:
    """Return whether every user of this machine can read (0o004) or write (0o002) a file."""
    return bool(file.stat().st_mode & mode) and not any(file.resolve().is_relative_to(mount) for mount in SECRET_MOUNTS)
