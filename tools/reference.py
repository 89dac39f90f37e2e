"""Write the generated parts of ``docs/reference`` from the program itself: ``make reference``.

A page is written by hand except for its generated parts, each between two comments:

    <!-- generated: NAME -->
    ...
    <!-- end of generated: NAME -->

A test compares the stored pages with what this module returns, so they cannot go out of date.
"""

import re
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import click

from etl.cli import cli
from etl.config import SETTINGS
from etl.outputs import cookbook
from etl.warehouse import checks, views
from etl.warehouse.package_files import folder
from tests.chaos import rows
from tests.e2e import faults
from tests.e2e.world import World, small
from tests.matrix import markdown

FOLDER = Path(__file__).resolve().parents[1] / "docs" / "reference"
PROGRAM = "anticaptcha-etl"
NONE = "none"

WITHOUT_OPTION = {
    "api_url": "Base URL of the API. Plain `http://` is accepted for this machine only.",
    "trusted_queues": "Queue names that exist although the API returns the account's total for them.",
    "trusted_soft_ids": "The same for softIds.",
    "trusted_ips": "The same for IP addresses.",
    "publish": "File or folder for a copy that `sync` writes for BI tools. Relative to the configuration file.",
    "balance": "Read the account's balance with each sync, with one request (`false`: do not).",
    "notify": "URLs of [apprise](../how-to/alerts.md) that alerts are delivered to. Treated as secrets.",
    "ping_url": "URL that is notified how each sync ended. Treated as a secret.",
}
"""Descriptions of the settings that are not an option of any command."""

_GENERATED = re.compile(r"(<!-- generated: (\w+) -->\n).*?(\n<!-- end of generated: \2 -->)", re.DOTALL)


class Command(NamedTuple):
    """A command with its full name, such as ``anticaptcha-etl sync``."""

    name: str
    command: click.Command


def commands(group: click.Group = cli, name: str = PROGRAM) -> Iterator[Command]:
    """All commands by name, those of nested groups included."""
    for key, command in sorted(group.commands.items()):
        if isinstance(command, click.Group):
            yield from commands(command, f"{name} {key}")
        else:
            yield Command(f"{name} {key}", command)


def cell(text: str) -> str:
    """Text for one cell of a table: one line, without characters that Markdown or HTML interpret."""
    return re.sub(r"([|<>*_\[\]])", r"\\\1", " ".join(text.split()))


def code(text: str, language: str = "text") -> str:
    return f"```{language}\n{text.strip()}\n```"


def link(name: str) -> str:
    """A link to the heading of this name on the same page."""
    return f"[`{name}`](#{name.replace(' ', '-')})"


# ---------------------------------------------------------------- commands and settings


def help_text(command: click.Command) -> str:
    """The help of a command as Markdown: paragraphs, with its examples as code."""
    parts = []
    for paragraph in (command.help or "").strip().split("\n\n"):
        lines = [line.strip() for line in paragraph.strip().splitlines()]
        parts.append(code("\n".join(lines[1:])) if lines[0] == "\b" else " ".join(lines))
    return "\n\n".join(parts)


def options(parameters: Sequence[click.Parameter], context: click.Context) -> str:
    """A table of options with the texts of ``--help``."""
    records = [option.get_help_record(context) for option in parameters if isinstance(option, click.Option)]
    lines = [(f"`{name.replace('|', ' or ')}`", cell(text)) for name, text in filter(None, records)]
    return markdown(("Option", "Meaning"), lines)


def command_list() -> str:
    lines = [(link(name), cell(command.get_short_help_str(200))) for name, command in commands()]
    return markdown(("Command", "Purpose"), lines)


def common_options() -> str:
    return options(cli.params, click.Context(cli, info_name=PROGRAM))


def command_details() -> str:
    common = {option.name for option in cli.params}
    parts = []
    for name, command in commands():
        context = click.Context(command, info_name=name)
        usage = " ".join([name, *command.collect_usage_pieces(context)])
        parts += [f"## {name}", code(usage), help_text(command)]
        own = [option for option in command.params if isinstance(option, click.Option) and option.name not in common]
        if own:
            parts.append(options(own, context))
    return "\n\n".join(parts)


def option_texts() -> dict[str, str]:
    """By flag, the help of the first command that has the option, without its ``[default: ...]``."""
    texts: dict[str, str] = {}
    for _, command in sorted(commands(), key=lambda found: found.name != f"{PROGRAM} sync"):
        for option in command.params:
            if isinstance(option, click.Option) and option.help:
                text = re.sub(r"\s*\[(?:default|env)[^\[]*\]$", "", option.help)
                texts |= {flag: text for flag in option.opts if flag not in texts}
    return texts


def default_text(value: object) -> str:
    match value:
        case None | ():
            return NONE
        case bool():
            return "on" if value else "off"
        case float():
            return f"`{value:g}`"
        case _:
            return f"`{value}`"


def settings() -> str:
    texts = option_texts()
    lines = []
    for setting in SETTINGS.values():
        names = [setting.name, setting.variable, *([setting.flag] if setting.flag in texts else [])]
        text = WITHOUT_OPTION.get(setting.name) or cell(texts[setting.flag])
        lines.append(("<br>".join(f"`{name}`" for name in names), default_text(setting.default), text))
    return markdown(("Configuration file, environment, command line", "Default", "Meaning"), lines)


def exit_codes() -> str:
    """The codes that ``anticaptcha-etl --help`` explains."""
    found = re.findall(r"^ +(\d+)  (.*)", cli.epilog or "", re.MULTILINE)
    return markdown(("Code", "Meaning"), [(number, cell(text)) for number, text in found])


# ---------------------------------------------------------------- SQL


def column_types() -> dict[str, list[tuple[str, str]]]:
    """By public view, its columns with their types, from a small warehouse."""
    with tempfile.TemporaryDirectory() as place, World(Path(place), small(1, queues=1)) as world:
        world.sync()
        return {view.name: [row[:2] for row in world.rows(f"describe {view.name}")] for view in views.public_views()}


def view_list() -> str:
    lines = [(link(view.name), cell(view.comment)) for view in sorted(views.public_views())]
    return markdown(("View", "Contents"), lines)


def view_details() -> str:
    types = column_types()
    parts = []
    for view in sorted(views.public_views()):
        lines = [(f"`{name}`", f"`{kind}`", cell(view.columns[name])) for name, kind in types[view.name]]
        comment = cell(view.comment)
        parts += [f"## {view.name}", f"{comment[0].upper()}{comment[1:]}."]
        parts.append(markdown(("Column", "Type", "Meaning"), lines))
    return "\n\n".join(parts)


def query_list() -> str:
    return markdown(("Query", "Result"), [(link(query.name), cell(query.grain)) for query in cookbook.load()])


def query_details() -> str:
    return "\n\n".join(f"## {query.name}\n\n{code(query.sql, 'sql')}" for query in cookbook.load())


def check_list() -> str:
    files = sorted((folder("sql") / "checks").glob("*.sql"))
    found = [checks.parse(file.stem, file.read_text("utf-8")) for file in files]
    lines = [
        (cell(check.sentence), check.severity.value, cell(check.hint))
        for check in sorted(found, key=lambda check: (check.severity.value, check.name))
    ]
    return markdown(("What should be true", "Severity", "If it is not"), lines)


PARTS: dict[str, Callable[[], str]] = {
    "command_list": command_list,
    "common_options": common_options,
    "command_details": command_details,
    "settings": settings,
    "exit_codes": exit_codes,
    "view_list": view_list,
    "view_details": view_details,
    "query_list": query_list,
    "query_details": query_details,
    "check_list": check_list,
    "faults": faults.MATRIX.table,
    "crashes": rows.MATRIX.table,
}


def current(page: str) -> str:
    """The page with its generated parts as they are now."""
    return _GENERATED.sub(lambda found: f"{found[1]}\n{PARTS[found[2]]()}\n{found[3]}", page)


def part_names(page: str) -> list[str]:
    return [found[2] for found in _GENERATED.finditer(page)]


if __name__ == "__main__":
    for file in sorted(FOLDER.glob("*.md")):
        file.write_text(current(file.read_text("utf-8")), "utf-8")
