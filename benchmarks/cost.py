"""What a program of its own cost, its start and end included: seconds, processor seconds, the most memory, and what it said."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any, NamedTuple

ROOT = Path(__file__).resolve().parents[1]
MEGABYTE = 1e6


class Cost(NamedTuple):
    """``peak`` is in MB. ``said`` is the JSON of the program's last line of output; empty where that is none."""

    seconds: float
    cpu: float
    peak: float
    said: Mapping[str, Any]


def cost(*command: str, **environ: str) -> Cost:
    """Runs a command to its end. Raises RuntimeError with its words when it fails."""
    ours = {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "",
    }  # an installed program is compiled once, not at every start
    place = {**os.environ, **ours, **environ}  # noqa: TID251 - a child gets ours
    began = perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=place)
    assert process.stdout
    assert process.stderr
    errors: list[str] = []
    listener = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else ""))
    listener.start()
    output = process.stdout.read()
    listener.join()
    _, status, used = os.wait4(process.pid, 0)
    seconds = perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors[0][-2000:]}")
    last = output.strip().splitlines()[-1:]
    said = json.loads(last[0]) if last and last[0].startswith("{") else {}
    scale = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * scale / MEGABYTE, said)


def python(module: str, *words: object, **environ: str) -> Cost:
    """A module of the benchmarks, as a program."""
    return cost(sys.executable, "-m", f"benchmarks.{module}", *map(str, words), **environ)


def in_turn(rounds: int, *ways: Callable[[], float]) -> list[float]:
    """Medians of several ways' costs, measured in turn, so that a busy minute meets them all."""
    spent = [[way() for way in ways] for _ in range(rounds)]
    return [median(column) for column in zip(*spent, strict=True)]
