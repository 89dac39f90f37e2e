"""A door: how its inputs are made, and what must be true of each."""

import random
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

KEY = "5e1f0c2b9a8d47630123456789abcdef"


class BrokenPromiseError(AssertionError):
    """A promise that does not hold for an input."""


class Door(ABC):
    """Checks inputs in a folder of its own. ``default_count``: inputs of ``make fuzz``."""

    name: ClassVar[str]
    default_count: ClassVar[int]

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @abstractmethod
    def make(self, source: random.Random) -> bytes:
        """Return a random input."""

    @abstractmethod
    def check(self, content: bytes) -> str:
        """Return how an input ended. Raises BrokenPromiseError, or whatever the program raises and must not."""

    def finish(self) -> None:  # noqa: B027 - most doors have nothing to do here
        """Check what can only be checked now and then."""

    def close(self) -> None:  # noqa: B027
        """Release what is open."""


def require(condition: object, promise: str) -> None:
    if not condition:
        raise BrokenPromiseError(promise)


def damaged(source: random.Random, content: bytes) -> bytes:
    """Return the content with one to three random changes of bytes."""
    changed = bytearray(content)
    for _ in range(source.randint(1, 3)):
        at = source.randrange(len(changed) + 1)
        match source.randrange(5):
            case 0:
                del changed[at:]
            case 1:
                del changed[at : at + source.choice((1, 1, 2, 8, 60))]
            case 2:
                changed[at:at] = source.randbytes(source.choice((1, 1, 4, 40)))
            case 3 if at < len(changed):
                changed[at] ^= 1 << source.randrange(8)
            case 4:
                other = source.randrange(len(changed) + 1)
                changed[at:at] = changed[min(at, other) : max(at, other)][:200]
    return bytes(changed)
