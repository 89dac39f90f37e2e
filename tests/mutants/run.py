"""Test the tests: put small mistakes into the program, one at a time, and see whether a test notices.

``python -m tests.mutants.run MUTANTS --seed N`` prints a line for each mutant that no test kills, and totals by module;
exit code 1 if fewer than 95 % are killed. Each mutant runs in a copy of the repository. Tests run in processes that are
forked from this one, which has imported all packages but not the program, the cheapest first. A first run without
mutants notes which tests call which functions.

mutmut 3 and cosmic-ray are not used: the first chooses a mutant by an environment variable, which tests that start the
program with an empty environment do not pass on; the second starts pytest anew for every mutant, in the checkout.
"""

import argparse
import contextlib
import importlib
import itertools
import json
import os
import random
import resource
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
import venv
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import NamedTuple

import pytest
from hypothesis import Phase, settings

from tests.matrix import markdown
from tests.mutants.mutations import Mutation, mutations

ROOT = Path(__file__).resolve().parents[2]
EQUIVALENT = Path(__file__).with_name("equivalent.txt")

GROUPS = {
    "planner": ("etl/extract/planner/*.py",),
    "parse": ("etl/transform/parse.py", "etl/extract/protocol.py"),
    "reconcile": ("etl/transform/reconcile.py", "etl/transform/hours.py", "etl/transform/breakdown.py"),
    "upsert": ("etl/load/upsert.py",),
    "journal": ("etl/extract/journal.py",),
    "client": ("etl/extract/client.py", "etl/extract/retry.py"),
}

UNIT = (
    *(f"planner_{part}" for part in ("apps", "days", "limits", "members", "runs")),
    *(
        "breakdown",
        "dedupe",
        "journal",
        "parse",
        "protocol",
        "reconcile",
        "recovery",
        "request_loop",
        "retry",
        "upsert",
    ),
)
OTHERS = {
    "property": ("hostile", "journal", "requests", "responses", "whole_runs"),
    "integration": ("client", "doctor", "doctor_probe", "journal", "state"),
    "e2e": ("commit_order", "dimensions", "exact", "history", "journal", "recovery"),
}
STAGES = (
    tuple(f"tests/unit/test_{name}.py" for name in UNIT),
    tuple(f"tests/{folder}/test_{name}.py" for folder, names in OTHERS.items() for name in names),
)
"""Files of tests: those of the second stage run only for mutants that survive the first."""

LONGEST_TEST = 3.0
"""Seconds: longer tests are left out."""
EXAMPLES = 25
"""Examples of a property for each mutant."""
MEMORY = 6 << 30
SLOTS = 2
CANNOT_RUN = 99
"""Exit code of a process that did not come to its tests."""
REQUIRED_SHARE = 0.95
PACKAGES = "duckdb hypothesis httpx psycopg sqlalchemy alembic duckdb_engine click rich filelock"


class CalledFunctions(NamedTuple):
    """The seconds of a test, and the outermost functions it calls, each with its file."""

    seconds: float
    functions: list[tuple[str, str]]


Tests = dict[str, CalledFunctions]


# ---------------------------------------------------------------- in the forked process


class Recorder:
    """Notes which functions of the mutated modules each test calls."""

    def __init__(self, root: Path, files: Sequence[str], tests: Tests) -> None:
        self._paths = {str(root / name): name for name in files}
        self._tests, self._called = tests, set[tuple[str, str]]()

    def _trace(self, frame: FrameType, event: str, argument: object) -> None:
        name = self._paths.get(frame.f_code.co_filename)
        if name is not None:
            self._called.add((name, frame.f_code.co_qualname.partition(".<locals>")[0]))

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            _take_few_examples(item)

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item) -> Iterator[None]:
        self._called.clear()
        threading.settrace(self._trace)
        sys.settrace(self._trace)
        began = time.process_time()
        wall = time.monotonic()
        try:
            return (yield)
        finally:
            sys.settrace(None)
            threading.settrace(None)
            seconds = max(time.process_time() - began, (time.monotonic() - wall) / 3)
            self._tests[item.nodeid] = CalledFunctions(seconds, sorted(self._called))


class CheapestFirst:
    """Runs the tests that call the mutated function, the cheapest first, each with a limit of its time."""

    def __init__(self, tests: Tests, mutation: Mutation) -> None:
        self._seconds = {name: test.seconds for name, test in tests.items() if _is_reached(test, mutation)}

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        items[:] = sorted((item for item in items if item.nodeid in self._seconds), key=self._of)
        for item in items:
            _take_few_examples(item)

    def _of(self, item: pytest.Item) -> float:
        return self._seconds[item.nodeid]

    def pytest_runtest_logstart(self, nodeid: str) -> None:
        signal.signal(signal.SIGALRM, signal.SIG_DFL)  # ends this process, which counts as noticed
        signal.alarm(30 + int(20 * self._seconds[nodeid]))


def _is_reached(test: CalledFunctions, mutation: Mutation) -> bool:
    """True if a test calls the mutated function; for what runs on import, any function of the module."""
    names = {name for path, name in test.functions if path == mutation.path}
    return bool(names) if mutation.function is None else mutation.function in names


def _take_few_examples(item: pytest.Item) -> None:
    """Few examples, always the same ones, and no search for smaller ones."""
    function = getattr(item, "obj", None)
    name = "_hypothesis_internal_use_settings"
    given = getattr(function, name, None)
    if given is not None:
        target = getattr(function, "__func__", function)
        few = min(EXAMPLES, given.max_examples)
        phases = (Phase.explicit, Phase.generate)
        setattr(target, name, settings(given, max_examples=few, derandomize=True, database=None, phases=phases))


def _run_pytest(copy: Path, files: Sequence[str], plugin: object) -> int:
    options = ["-x", "-q", "--no-header", "--tb=line", "-m", "not server and not long and not extended"]
    off = ["-p", "no:randomly", "-p", "no:xdist", "-p", "no:cacheprovider", "-p", "no:faulthandler"]
    off += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # plugins are imported already
    return int(pytest.main([*options, *off, "--basetemp", str(copy / "tmp"), *files], plugins=[plugin]))


def _become_a_test_process(copy: Path, output: Path) -> None:
    """Import everything of the repository from the copy, here and in processes started by tests."""
    os.setsid()
    resource.setrlimit(resource.RLIMIT_DATA, (MEMORY, MEMORY))
    for name in [name for name in sys.modules if name.split(".")[0] in {"tests", "etl", "migrations"}]:
        del sys.modules[name]
    sys.path[:] = [str(copy), *(path for path in sys.path if path and Path(path).resolve() != ROOT)]
    sys.executable = str(copy / "venv/bin/python")
    os.chdir(copy)
    with output.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)


def _forked(copy: Path, output: Path, action: Callable[[], int]) -> int:
    """Run ``action`` in a forked process and return its exit code; negative for a signal."""
    process = os.fork()
    if process == 0:
        code = CANNOT_RUN
        try:
            _become_a_test_process(copy, output)
            code = action()
        except BaseException:  # noqa: BLE001 # nothing may return into the code of the parent
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    _, status = os.waitpid(process, 0)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # processes that its tests started and did not end
    code = os.waitstatus_to_exitcode(status)
    assert code != CANNOT_RUN, output.read_text(errors="replace")[-3000:]
    return code


# ---------------------------------------------------------------- copies of the repository


def make_copy(folder: Path) -> Path:
    """Copy what tests need, with a virtual environment that imports the copy."""
    for name in ("etl", "tests", "migrations", "sql", "docs", "deploy", "tools"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("pyproject.toml", "README.md", "CHANGELOG.md", "alembic.ini", "Makefile"):
        shutil.copy(ROOT / name, folder)
    venv.create(folder / "venv", symlinks=True)
    [packages] = (folder / "venv/lib").glob("python*/site-packages")
    dependencies = Path(pytest.__file__).parents[1]
    (packages / "copy.pth").write_text(f"{folder}\n{dependencies}\n")
    (folder / "tmp").mkdir()
    return folder


# ---------------------------------------------------------------- mutants


def files_by_group() -> dict[str, list[str]]:
    return {
        group: [str(path.relative_to(ROOT)) for pattern in patterns for path in sorted(ROOT.glob(pattern))]
        for group, patterns in GROUPS.items()
    }


class Sample(NamedTuple):
    mutants: list[Mutation]
    possible: int
    stale: set[tuple[str, str, str]]
    """Entries of the list of equivalent mutations that match none."""


def choose(number: int, seed: int) -> Sample:
    """A random sample, spread over the files by the number of their mutations; equivalent ones are left out."""
    equivalent = read_equivalent()
    unseen = set(equivalent)
    by_file: dict[str, list[Mutation]] = {}
    for path in sorted(path for paths in files_by_group().values() for path in paths):
        found = mutations(path, (ROOT / path).read_text())
        unseen -= {_key(one) for one in found}
        by_file[path] = [one for one in found if _key(one) not in equivalent]
    possible = sum(map(len, by_file.values()))
    chosen = []
    for path, found in by_file.items():
        share = min(len(found), -(-number * len(found) // possible))
        chosen += random.Random(f"{seed} {path}").sample(found, share)
    return Sample(chosen, possible, unseen)


def those_in(output: str) -> list[Mutation]:
    """The mutants in the lines of an earlier run, although their code may have moved by some lines."""
    lines = [line.split("\t") for line in output.splitlines()]
    wanted = [(*cells[1].rpartition(":")[::2], cells[2]) for cells in lines if len(cells) > 2]
    return [
        one
        for one in choose(10**6, 0).mutants
        if any((path, change) == (one.path, one.change) and abs(int(n) - one.line) < 10 for path, n, change in wanted)
    ]


def _key(mutation: Mutation) -> tuple[str, str, str]:
    return mutation.path, mutation.code, mutation.change


def read_equivalent() -> dict[tuple[str, str, str], str]:
    """Mutations that change no behaviour, with the reason: a block of four lines each, separated by an empty line."""
    lines = [line for line in EQUIVALENT.read_text().splitlines() if not line.startswith("#")]
    blocks = [block.split("\n") for block in "\n".join(lines).strip().split("\n\n") if block.strip()]
    return {(path, code, change): reason for path, code, change, reason in blocks}


def is_killed(copy: Path, mutation: Mutation, tests: Tests) -> str:
    """Return the test that notices the mutation, or an empty text."""
    path, output = copy / mutation.path, copy / "output.txt"
    original = path.read_bytes()
    _write(path, mutation.apply(original))
    try:
        for stage in STAGES:
            files = [name for name in stage if any(_is_reached(test, mutation) for test in _of_file(tests, name))]
            if not files:
                continue
            plugin = CheapestFirst(tests, mutation)
            code = _forked(copy, output, lambda files=files, plugin=plugin: _run_pytest(copy, files, plugin))  # type: ignore[misc]
            if code not in (pytest.ExitCode.OK, pytest.ExitCode.NO_TESTS_COLLECTED):
                failed = [
                    line
                    for line in output.read_text(errors="replace").splitlines()
                    if line.startswith(("FAILED", "ERROR"))
                ]
                return failed[0] if failed else f"exit code {code}"
        return ""
    finally:
        _write(path, original)


VERSIONS = itertools.count(1)


def _write(path: Path, content: bytes) -> None:
    """Write a version of a module with a time of its own, by which Python knows whether its bytecode is of this one."""
    path.write_bytes(content)
    version = next(VERSIONS)
    os.utime(path, (version, version))


def _of_file(tests: Tests, file: str) -> list[CalledFunctions]:
    return [test for name, test in tests.items() if name.startswith(f"{file}::")]


def record_tests(copy: Path, stage: Sequence[str]) -> Tests:
    """Run all tests of a stage on the unchanged program; they must pass."""
    files = [path for paths in files_by_group().values() for path in paths]
    result = copy / "tests.json"

    def run() -> int:
        tests: Tests = {}
        code = _run_pytest(copy, stage, Recorder(copy, files, tests))
        result.write_text(json.dumps(tests))
        return code

    code = _forked(copy, copy / "output.txt", run)
    assert code == 0, (copy / "output.txt").read_text()[-3000:]
    read = json.loads(result.read_text())
    return {
        name: CalledFunctions(seconds, [(path, function) for path, function in called])
        for name, (seconds, called) in read.items()
    }


def all_tests(copies: Sequence[Path]) -> Tests:
    """All tests but the longest, each with what it calls."""
    halves = [STAGES[0] + STAGES[1][:-2], STAGES[1][-2:]]
    with ThreadPoolExecutor(SLOTS) as pool:
        recorded = list(pool.map(record_tests, copies, halves))
    return {name: test for tests in recorded for name, test in tests.items() if test.seconds <= LONGEST_TEST}


# ---------------------------------------------------------------- the command


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("mutants", type=int)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--tests", type=Path, help="keep what the tests call in this file, or read it from there")
    parser.add_argument("--again", type=Path, help="only the mutants in the lines of this output of an earlier run")
    parser.add_argument("--verbose", action="store_true", help="also print killed mutants, each with the test")
    options = parser.parse_args()
    for name in PACKAGES.split():
        importlib.import_module(name)
    sample = choose(options.mutants, options.seed)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [make_copy(Path(folder).resolve() / str(slot)) for slot in range(SLOTS)]
        tests = read_or_record(options.tests, copies)
        print(
            f"{len(tests)} tests, {sum(test.seconds for test in tests.values()):.0f} s; "
            f"{len(sample.mutants)} of {sample.possible} mutants, seed {options.seed}",
            flush=True,
        )
        mutants = sample.mutants if options.again is None else those_in(options.again.read_text())
        random.Random(options.seed).shuffle(mutants)
        survivors = set(run_all(copies, mutants, tests, verbose=options.verbose))
    print(table(mutants, survivors), f"{time.monotonic() - began:.0f} s", sep="\n")
    for path, code, change in sorted(sample.stale):
        print(f"equivalent.txt: no longer in {path}: {code}: {change}")
    killed = 1 - len(survivors) / max(1, len(mutants))
    return int(killed < REQUIRED_SHARE or bool(sample.stale))


def read_or_record(file: Path | None, copies: Sequence[Path]) -> Tests:
    if file and file.exists():
        return {
            name: CalledFunctions(seconds, [(path, function) for path, function in called])
            for name, (seconds, called) in json.loads(file.read_text()).items()
        }
    tests = all_tests(copies)
    if file:
        file.write_text(json.dumps(tests))
    return tests


def run_all(copies: Sequence[Path], mutants: Sequence[Mutation], tests: Tests, *, verbose: bool) -> Iterator[Mutation]:
    """Run the mutants, one at a time in each copy; print and return those that survive."""
    free: SimpleQueue[Path] = SimpleQueue()
    for copy in copies:
        free.put(copy)

    def run(mutation: Mutation) -> str:
        copy = free.get()
        try:
            return is_killed(copy, mutation, tests)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        for done, (mutation, killer) in enumerate(zip(mutants, pool.map(run, mutants), strict=True), start=1):
            if verbose or not killer:
                print(f"{done}\t{_line(mutation)}\t{killer}", flush=True)
            if not killer:
                yield mutation


def _line(mutation: Mutation) -> str:
    return f"{mutation.path}:{mutation.line}\t{mutation.change}"


def table(mutants: Sequence[Mutation], survivors: set[Mutation]) -> str:
    """Totals by module."""
    group_of = {path: group for group, paths in files_by_group().items() for path in paths}
    totals = Counter(group_of[one.path] for one in mutants)
    alive = Counter(group_of[one.path] for one in survivors)
    rows = [(group, str(totals[group]), str(totals[group] - alive[group]), str(alive[group])) for group in GROUPS]
    share = f"{(1 - len(survivors) / max(1, len(mutants))):.1%}"
    last = ("all", str(len(mutants)), f"{len(mutants) - len(survivors)} ({share})", str(len(survivors)))
    return markdown(("module", "mutants", "killed", "survivors"), [*rows, last])


if __name__ == "__main__":
    sys.exit(main())
