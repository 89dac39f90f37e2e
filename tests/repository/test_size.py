"""Files and functions stay small enough to read at once."""

import ast
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 50

LONGER_FILES: dict[str, str] = {}
"""Files of the program that may be longer, each with its reason."""


def sources() -> Iterator[Path]:
    return (ROOT / "etl").rglob("*.py")


def test_no_file_is_longer_than_400_lines() -> None:
    lines = {str(file.relative_to(ROOT)): len(file.read_text().splitlines()) for file in sources()}
    too_long = {name: count for name, count in lines.items() if count > MAX_FILE_LINES}
    assert too_long.keys() == LONGER_FILES.keys()


def test_no_function_is_longer_than_a_screen() -> None:
    functions = (
        (file, node)
        for file in sources()
        for node in ast.walk(ast.parse(file.read_text()))
        if isinstance(node, ast.FunctionDef)
    )
    lines = {f"{file.name}: {node.name}": (node.end_lineno or 0) - node.lineno + 1 for file, node in functions}
    assert not {name: count for name, count in lines.items() if count > MAX_FUNCTION_LINES}
