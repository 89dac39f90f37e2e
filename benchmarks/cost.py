"""Run a program and measure it, startup included: seconds, processor seconds, peak memory and its result."""

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
KEY = "5e1f0c2b9a8d47630123456789abcdef"


class Cost(NamedTuple):
    """``peak``: memory in MB. ``result``: the last line of output if it is JSON, otherwise empty."""

    seconds: float
    cpu: float
    peak: float
    result: Mapping[str, Any]


def cost(*command: str, **environ: str) -> Cost:
    """Run a command to its end. Raises RuntimeError with its error output if it fails."""
    # an installed program is compiled once, not on every start
    ours = {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": ""}
    environment = {**os.environ, **ours, **environ}  # noqa: TID251 - passed on to the child
    began = perf_counter()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT, env=environment
    )
    assert process.stdout
    assert process.stderr
    errors: list[str] = []
    reader = threading.Thread(target=lambda: errors.append(process.stderr.read() if process.stderr else ""))
    reader.start()
    output = process.stdout.read()
    reader.join()
    _, status, used = os.wait4(process.pid, 0)
    seconds = perf_counter() - began
    process.returncode = os.waitstatus_to_exitcode(status)
    process.stdout.close()
    process.stderr.close()
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {errors[0][-2000:]}")
    last = output.strip().splitlines()[-1:]
    result = json.loads(last[0]) if last and last[0].startswith("{") else {}
    scale = 1 if sys.platform == "darwin" else 1024
    return Cost(seconds, used.ru_utime + used.ru_stime, used.ru_maxrss * scale / MEGABYTE, result)


def python(module: str, *arguments: object, **environ: str) -> Cost:
    """Run a module of the benchmarks as a program."""
    return cost(sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments), **environ)


def etl(folder: str | Path, *arguments: object, **environ: str) -> Cost:
    """Run the command line on ``warehouse.duckdb`` in a folder, with the settings of its ``anticaptcha-etl.toml``."""
    return cost(sys.executable, "-m", "etl", *map(str, arguments), **variables(folder), **environ)


def variables(folder: str | Path) -> dict[str, str]:
    """Return the environment variables with which the command line works in a folder."""
    return {
        "ANTICAPTCHA_WAREHOUSE": str(Path(folder) / "warehouse.duckdb"),
        "ANTICAPTCHA_CONFIG": str(Path(folder) / "anticaptcha-etl.toml"),
        "ANTICAPTCHA_CLIENT_KEY": KEY,
    }


def write_settings(folder: str | Path, **settings: object) -> None:
    """Write ``anticaptcha-etl.toml``; JSON's values are valid in TOML too."""
    lines = [f"{name} = {json.dumps(value)}\n" for name, value in settings.items()]
    (Path(folder) / "anticaptcha-etl.toml").write_text("".join(lines))


def in_turn(rounds: int, *measures: Callable[[], float]) -> list[float]:
    """Return the median of each measure, taken in turn so that other load on the machine affects all of them."""
    rounds_of_costs = [[measure() for measure in measures] for _ in range(rounds)]
    return [median(column) for column in zip(*rounds_of_costs, strict=True)]
