"""The documentation is current, complete, and its shell and SQL blocks work."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

import pytest

from etl import errors
from etl.cli import cli
from etl.config import SETTINGS
from etl.config.alert_rules import read_rules
from etl.outputs import cookbook
from etl.sandbox.behaviour import Behaviour
from etl.sandbox.dataset import Dataset
from etl.sandbox.server import Sandbox
from etl.warehouse import views
from tools import reference

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
REFERENCE = sorted(reference.FOLDER.glob("*.md"))
FROM_NOTHING = {"README.md", "first-chart.md"}
"""Pages that create their warehouse themselves."""

ACCOUNTS = ("shop", "lab", "archive")
MAX_README_LINES = 150

BLOCK = re.compile(
    r"""^(?P<indent>\ *)(?:<!--\ not\ run:\ (?P<reason>[^>]+)\ -->\n\ *)?
        ```(?P<language>\w+)(?:\ title="(?P<title>[^"]+)")?\n(?P<text>.*?)\n\ *```$""",
    re.VERBOSE | re.MULTILINE | re.DOTALL,
)


class Block(NamedTuple):
    """A fenced block of a page. ``reason`` says why it is not run; ``title`` is the file it belongs into."""

    language: str
    text: str
    title: str
    reason: str


def blocks(page: Path) -> list[Block]:
    found = []
    for match in BLOCK.finditer(page.read_text("utf-8")):
        text = re.sub(rf"^{match['indent']}", "", match["text"], flags=re.MULTILINE)
        found.append(Block(match["language"], text, match["title"] or "", match["reason"] or ""))
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


# ---------------------------------------------------------------- reference


@pytest.mark.parametrize("page", REFERENCE, ids=name_of)
def test_reference_page_is_current(page: Path) -> None:
    assert page.read_text("utf-8") == reference.current(page.read_text("utf-8")), "run `make reference`"


def test_every_generated_part_is_on_a_page() -> None:
    found = [name for page in REFERENCE for name in reference.part_names(page.read_text("utf-8"))]
    assert sorted(found) == sorted(reference.PARTS)


def test_reference_names_every_command_setting_view_and_query() -> None:
    text = {page.stem: page.read_text("utf-8") for page in REFERENCE}
    for name in cli.commands:
        assert f"## anticaptcha-etl {name}" in text["commands"]
    for setting in SETTINGS.values():
        assert f"`{setting.variable}`" in text["settings"]
    for view in views.public_views():
        assert f"\n## {view.name}\n" in text["views"]
    for query in cookbook.load():
        assert f"\n## {query.name}\n" in text["cookbook"]
    for code in errors.PRECEDENCE:
        assert f"\n| {code} | " in text["exit-codes"]


# ---------------------------------------------------------------- README and links


def test_readme_is_short() -> None:
    assert len((ROOT / "README.md").read_text("utf-8").splitlines()) <= MAX_README_LINES


def test_readme_names_every_view() -> None:
    text = (ROOT / "README.md").read_text("utf-8")
    assert [view.name for view in views.public_views() if f"| `{view.name}` |" not in text] == []


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_to_files(page: Path) -> None:
    """``mkdocs build --strict`` also checks the anchors; this includes README and needs no other environment."""
    links = re.findall(r"\]\(([^)#\s]+)", re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL))
    local = [link for link in links if not link.startswith("https://")]
    assert [link for link in local if not (page.parent / link).is_file()] == []
    if page.is_relative_to(DOCS):
        assert [link for link in local if not (page.parent / link).resolve().is_relative_to(DOCS)] == []


def test_every_page_is_in_the_navigation() -> None:
    listed = re.findall(r"[\w/-]+\.md$", (ROOT / "mkdocs.yml").read_text("utf-8"), re.MULTILINE)
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


# ---------------------------------------------------------------- blocks


def test_llms_txt_lists_every_page() -> None:
    listed = re.findall(r"\]\((\S+)\)", (DOCS / "llms.txt").read_text("utf-8"))
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in DOCS.rglob("*.md"))


def test_block_languages_are_known() -> None:
    for page in PAGES:
        languages = {block.language for block in blocks(page)}
        assert languages <= {"sh", "sql", "toml", "python", "text"}, page
        assert page.read_text("utf-8").count("```") == 2 * len(blocks(page)), page


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_toml_and_python_blocks_are_valid(page: Path) -> None:
    known = {name for setting in SETTINGS.values() for name in (setting.name, setting.variable[12:].lower())}
    known |= {"client_key_file", "client_key_env"}
    for block in blocks(page):
        if block.language == "toml":
            table = tomllib.loads(block.text)
            accounts = table.pop("accounts", {})
            read_rules(table.pop("alerts", []), page)
            assert {*table, *(key for account in accounts.values() for key in account)} <= known
        if block.language == "python":
            ast.parse(block.text)


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    now = datetime.now(UTC)
    begins = now.date() - timedelta(days=8)
    dataset = Dataset(begins=begins, queues=3, idle_weeks=0, turnover=False, corrections=True)
    with Sandbox(dataset, Behaviour(unknown_queue="zeros"), now=lambda: now) as running:
        yield running


def environment(folder: Path, sandbox: Sandbox) -> dict[str, str]:
    return {
        "PATH": os.pathsep.join([str(Path(sys.executable).parent), *os.get_exec_path()]),
        "HOME": str(folder),
        "ANTICAPTCHA_API_URL": sandbox.url,
        "ANTICAPTCHA_CLIENT_KEY": "any-text",
        "ANTICAPTCHA_EMPTY_DAYS": "5",
        "ANTICAPTCHA_RATE": "0",
        "ANTICAPTCHA_CONCURRENCY": "8",
    }


def run(script: str, folder: Path, variables: dict[str, str]) -> None:
    command = ["bash", "-euo", "pipefail", "-c", script]
    done = subprocess.run(
        command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{script}\n{done.stdout}\n{done.stderr}"


@pytest.fixture(scope="module")
def warehouse(tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox) -> Path:
    folder = tmp_path_factory.mktemp("synced")
    run("anticaptcha-etl sync", folder, environment(folder, sandbox))
    return folder / "warehouse.duckdb"


def file_script(name: str, text: str) -> str:
    return f"mkdir -p \"$(dirname '{name}')\"\ncat > '{name}' <<'END'\n{text}\nEND\n"


def script_of(page: Path) -> str:
    """A shell script of all blocks of a page, in order."""
    parts = []
    for block in blocks(page):
        if block.reason:
            continue
        if block.title:
            parts.append(file_script(block.title, block.text))
        elif block.language == "sh":
            parts.append(block.text)
        elif block.language == "sql":
            parts.append(f"anticaptcha-etl query - <<'END'\n{block.text}\nEND")
    return "\n".join(parts)


RUNNABLE = [page for page in PAGES if page.name != "cookbook.md" and script_of(page)]
"""The saved queries have tests of their own."""


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_shell_and_sql_blocks_run(page: Path, warehouse: Path, sandbox: Sandbox, tmp_path: Path) -> None:
    """In a folder of their own: paths below /srv and /etc/anticaptcha are moved into it."""
    if page.name not in FROM_NOTHING:
        shutil.copy(warehouse, tmp_path)
    keys = tmp_path / "etc" / "anticaptcha"
    for folder in (keys, tmp_path / "srv" / "bi"):
        folder.mkdir(parents=True)
    for account in ACCOUNTS:
        (keys / account).write_text(f"the-key-of-{account}\n")
        (keys / account).chmod(0o600)
    script = re.sub(r"(?<![\w.])/(srv/bi|etc/anticaptcha)\b", rf"{tmp_path}/\1", script_of(page))
    script = script.replace("http://127.0.0.1:8484", sandbox.url).replace("make demo", "anticaptcha-etl demo")
    run(script, tmp_path, environment(tmp_path, sandbox))
