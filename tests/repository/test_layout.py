"""Rules for the repository as a whole: commands, imports, names, locks and what is shipped."""

import ast
import subprocess
import sys
import tomllib
import venv
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from etl import __version__, errors
from etl.cli import cli
from tests.migrated_file import copy_migrated

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "etl").rglob("*.py"))
COMMANDS = sorted(cli.commands)


def subclasses(parent: type[errors.AppError]) -> Iterator[type[errors.AppError]]:
    for child in parent.__subclasses__():
        yield child
        yield from subclasses(child)


# ---------------------------------------------------------------- commands and exit codes


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_shows_how_it_is_typed(name: str) -> None:
    command = cli.commands[name]
    assert command.help
    assert f"anticaptcha-etl {name}" in command.help


@pytest.mark.parametrize("name", COMMANDS)
def test_every_option_has_a_help_text(name: str) -> None:
    parameters = [*cli.params, *cli.commands[name].params]
    assert not [option.name for option in parameters if isinstance(option, click.Option) and not option.help]


@pytest.mark.parametrize("words", [[], *([name] for name in COMMANDS)], ids=lambda words: " ".join(words) or "-")
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    program = f"""
import sys
from etl.cli import run
code = run({[*words, "--help"]!r})
heavy = {{"httpx", "sqlalchemy", "duckdb", "alembic", "rich", "filelock", "http", "ssl", "logging", "json", "tomllib"}}
sys.exit(", ".join(sorted(heavy & sys.modules.keys())) or code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("Usage: anticaptcha-etl")


@pytest.mark.parametrize("words", [["query", "select 1"], ["status"], ["check"], ["plan"]], ids=" ".join)
def test_reading_a_file_imports_nothing_that_only_writing_needs(words: list[str], tmp_path: Path) -> None:
    file = copy_migrated(tmp_path / "warehouse.duckdb")
    program = f"""
import sys
from etl.cli import run
code = run({[*words, "--warehouse", str(file)]!r})
heavy = {{"sqlalchemy", "duckdb_engine", "alembic", "httpx", "rich.console", "ssl", "jinja2", "altair", "filelock"}}
sys.exit(", ".join(sorted(heavy & sys.modules.keys())) or code)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, cwd=ROOT)
    assert (done.returncode, done.stderr) == (0, "")


def test_every_error_class_is_in_the_tree_with_an_exit_code_of_the_contract() -> None:
    tree = errors.__doc__ or ""
    for error in subclasses(errors.AppError):
        assert f"+-- {error.__name__}" in tree
        assert error.exit_code in errors.PRECEDENCE
    assert not [
        line for line in tree.splitlines() if "+--" in line and not hasattr(errors, line.split("+--")[1].split()[0])
    ]


def test_every_exit_code_is_explained_in_the_help() -> None:
    for code in errors.PRECEDENCE:
        assert f"\n{code:5}  " in (cli.epilog or "")


# ---------------------------------------------------------------- source files


def test_imports_follow_the_contracts() -> None:
    linter = Path(sys.executable).with_name("lint-imports")
    done = subprocess.run([linter, "--no-cache"], capture_output=True, text=True, check=False, cwd=ROOT)
    assert done.returncode == 0, done.stdout


def test_no_module_has_a_meaningless_name() -> None:
    forbidden = {"utils", "util", "helpers", "helper", "common", "manager", "process", "handle", "misc"}
    assert not [path for path in SOURCES if forbidden & {*path.stem.split("_"), *path.parent.relative_to(ROOT).parts}]


FLOATS_BESIDE_MONEY = {
    ("etl/warehouse/engine.py", 0.0): "seconds to wait for a lock",
    ("etl/warehouse/duckdb.py", 0.05): "seconds between two tries for a lock",
    ("etl/warehouse/postgres.py", 0.5): "seconds between two tries for a connection",
    ("etl/warehouse/checks.py", 0.1): "seconds between two tries to stop a check",
}


def floats(path: Path) -> Iterator[tuple[str, object]]:
    """Float literals and calls of ``float``, each with the name of its file."""
    name = path.relative_to(ROOT).as_posix()
    tree = ast.parse(path.read_text())
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, float):
            yield name, node.value
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "float":
            yield name, f"float() in line {node.lineno}"


def test_no_floats_in_modules_that_process_money() -> None:
    folders = ("etl/transform/", "etl/load/", "etl/models.py", "etl/hour_values.py", "etl/money.py", "etl/warehouse/")
    found = {hit for path in SOURCES if path.relative_to(ROOT).as_posix().startswith(folders) for hit in floats(path)}
    assert found - FLOATS_BESIDE_MONEY.keys() == set()
    assert FLOATS_BESIDE_MONEY.keys() - found == set()


def test_changelog_has_the_current_version() -> None:
    assert "version" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dynamic"]
    assert f"## {__version__}" in (ROOT / "CHANGELOG.md").read_text()


@pytest.mark.parametrize("name", ["requirements.lock", "requirements-dev.lock", "requirements-docs.lock"])
def test_locks_pin_by_hash_and_name_no_index(name: str) -> None:
    lines = [line for line in (ROOT / name).read_text().splitlines() if line and not line.lstrip().startswith("#")]
    pins = [line for line in lines if not line.startswith(" ")]
    assert all("==" in pin and pin.endswith("\\") for pin in pins)
    assert all(line.startswith("    --hash=sha256:") for line in lines if line not in pins)


def test_locks_contain_all_dependencies() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    runtime, everything = ((ROOT / name).read_text() for name in ("requirements.lock", "requirements-dev.lock"))
    for need in [*project["project"]["dependencies"], *project["dependency-groups"]["build"]]:
        assert f"\n{need.partition('>')[0]}==" in f"\n{runtime}"
    for need in project["dependency-groups"]["dev"]:
        assert f"\n{need.partition('>')[0].partition('[')[0]}==" in f"\n{everything}"
    assert {line for line in runtime.splitlines() if "==" in line} <= set(everything.splitlines())


# ---------------------------------------------------------------- what is shipped


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_wheel_contains_exactly_the_package_migrations_and_sql(wheel: Path) -> None:
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    outside = [
        path
        for name in ("migrations", "sql")
        for path in (ROOT / name).rglob("*")
        if path.suffix in (".py", ".sql", ".mako")
    ]
    report = ROOT / "etl/outputs/report"
    report_files = (
        path for pattern in ("*.css", "*.js", "*.txt", "sql/*.sql", "templates/*.j2") for path in report.glob(pattern)
    )
    other_files = [ROOT / "etl/py.typed", *report_files]
    expected = {path.relative_to(ROOT).as_posix() for path in [*SOURCES, *other_files]}
    assert found == expected | {f"etl/{path.relative_to(ROOT).as_posix()}" for path in outside}


def test_the_installed_wheel_works_from_another_directory(wheel: Path, tmp_path: Path) -> None:
    """The package comes from the wheel, its dependencies from this environment, so nothing is downloaded."""
    home = tmp_path / "venv"
    venv.create(home, symlinks=True)
    site = next(home.glob("lib/python*/site-packages"))
    zipfile.ZipFile(wheel).extractall(site)
    dependencies = Path(click.__file__).parents[1]
    # Appended to the path as a plain line, its own .pth files, and so the checkout, are not read.
    (site / "dependencies.pth").write_text(f"{dependencies}\n")
    program = "import etl, sys; from etl.cli import main; print(etl.__file__); sys.stdout.flush(); main()"

    def anticaptcha_etl(*words: str) -> subprocess.CompletedProcess[str]:
        command = [f"{home}/bin/python", "-c", program, *words]
        return subprocess.run(command, cwd=tmp_path, env={}, capture_output=True, text=True, check=False)

    done = anticaptcha_etl("--version")
    assert done.stdout.splitlines() == [f"{site}/etl/__init__.py", f"anticaptcha-etl {__version__}"]
    made = anticaptcha_etl("plan", "--since", "2026-01-01")
    assert made.returncode == 0, made.stderr
    assert "days to check" in made.stdout
