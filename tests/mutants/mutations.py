"""Mutations of a module: small mistakes, each an edit of its source text."""

import ast
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

COMPARISONS: dict[type[ast.cmpop], tuple[str, ...]] = {
    ast.Lt: ("<=", ">"),
    ast.LtE: ("<", ">"),
    ast.Gt: (">=", "<"),
    ast.GtE: (">", "<"),
    ast.Eq: ("!=",),
    ast.NotEq: ("==",),
    ast.In: ("not in",),
    ast.NotIn: ("in",),
    ast.Is: ("is not",),
    ast.IsNot: ("is",),
}
OPERATORS: dict[type[ast.operator], str] = {
    ast.Add: "-",
    ast.Sub: "+",
    ast.Mult: "//",
    ast.Div: "*",
    ast.FloorDiv: "*",
    ast.Mod: "+",
    ast.Pow: "*",
    ast.BitOr: "&",
    ast.BitAnd: "|",
}
SQL = (
    (r"<>", "="),
    (r"\band not\b", "and"),
    (r"\band\b", "or"),
    (r"\bleft join\b", "join"),
    (r"\bwhere not exists\b", "where exists"),
    (r"\bmax\(", "min("),
    (r"\bgreatest\(", "least("),
    (r" \+ ", " - "),
)
LOGGING = {"log", "_log", "logger", "_logger"}
NO_BEHAVIOUR = {"cast", "TypeVar", "NewType", "namedtuple"}


class Mutation(NamedTuple):
    """A mistake in a file: ``before`` at byte ``start`` becomes ``after``. ``function``: the outermost function around it."""

    path: str
    line: int
    function: str | None
    start: int
    before: str
    after: str
    code: str
    """The line of source, by which a mutation is recognised although others have moved it."""

    @property
    def change(self) -> str:
        return f"{_one_line(self.before)} → {_one_line(self.after) or 'nothing'}"

    def apply(self, source: bytes) -> bytes:
        end = self.start + len(self.before.encode())
        assert source[self.start : end] == self.before.encode()
        return source[: self.start] + self.after.encode() + source[end:]


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", text).strip()


def mutations(path: str, source: str) -> list[Mutation]:
    """All mutations of a module, in the order of its lines, each once."""
    found = {(one.start, one.before, one.after): one for one in _Finder(path, source).find() if one.before != one.after}
    return sorted(found.values(), key=lambda one: (one.start, one.before, one.after))


class _Finder:
    def __init__(self, path: str, source: str) -> None:
        self._path, self._source, self._lines = path, source, source.splitlines()
        self._classes: list[str] = []
        self._starts = [0]
        for line in source.encode().splitlines(keepends=True):
            self._starts.append(self._starts[-1] + len(line))

    def find(self) -> Iterator[Mutation]:
        yield from self._mutations_of(ast.parse(self._source), None)

    def _mutations_of(self, node: ast.AST, function: str | None) -> Iterator[Mutation]:
        if _has_no_behaviour(node):
            return
        if isinstance(node, ast.FunctionDef | ast.Lambda):
            name = node.name if isinstance(node, ast.FunctionDef) else "<lambda>"
            yield from self._mutations_of_all([*node.args.defaults, *filter(None, node.args.kw_defaults)], function)
            inside = function or ".".join([*self._classes, name])
            yield from self._mutations_of_all(node.body if isinstance(node.body, list) else [node.body], inside)
            return
        if isinstance(node, ast.ClassDef):
            self._classes.append(node.name)
            yield from self._mutations_of_all(node.body, function)
            self._classes.pop()
            return
        for target, after in _replacements(node):
            yield from self._mutation(target, after, function)
        yield from self._keywords(node, function)
        yield from self._operators(node, function)
        yield from self._sql(node, function)
        if isinstance(node, ast.JoinedStr):  # the positions inside are those of another text
            return
        yield from self._mutations_of_all(_children(node), function)

    def _mutations_of_all(self, nodes: Sequence[ast.AST], function: str | None) -> Iterator[Mutation]:
        for node in nodes:
            yield from self._mutations_of(node, function)

    def _mutation(self, node: ast.AST, after: str, function: str | None) -> Iterator[Mutation]:
        start, end = self._span(node)
        yield self._edit(start, self._text(start, end), after, function)

    def _edit(self, start: int, before: str, after: str, function: str | None) -> Mutation:
        line = sum(begin <= start for begin in self._starts)
        return Mutation(self._path, line, function, start, before, after, self._lines[line - 1].strip())

    def _keywords(self, node: ast.AST, function: str | None) -> Iterator[Mutation]:
        """Calls without one of their keywords."""
        if isinstance(node, ast.Call):
            for keyword in node.keywords:
                if keyword.arg not in {None, "strict"}:
                    start, end = self._span(keyword)
                    comma = re.match(r"\s*,\s*", self._text(end, self._span(node)[1]))
                    yield self._edit(start, self._text(start, end) + (comma[0] if comma else ""), "", function)

    def _operators(self, node: ast.AST, function: str | None) -> Iterator[Mutation]:
        """Comparisons and arithmetic, whose operators have no position of their own."""
        if isinstance(node, ast.Compare):
            for left, operator, right in zip([node.left, *node.comparators], node.ops, node.comparators, strict=False):
                for other in COMPARISONS[type(operator)]:
                    yield from self._between(left, right, other, function)
        if isinstance(node, ast.BinOp) and type(node.op) in OPERATORS and not _is_text(node):
            yield from self._between(node.left, node.right, OPERATORS[type(node.op)], function)
        if isinstance(node, ast.AugAssign) and type(node.op) in OPERATORS:
            yield from self._between(node.target, node.value, f"{OPERATORS[type(node.op)]}=", function)

    def _between(self, left: ast.AST, right: ast.AST, after: str, function: str | None) -> Iterator[Mutation]:
        start, end = self._span(left)[1], self._span(right)[0]
        match = re.search(
            r"(?<=[\s)\]])(not in|is not|in|is|[<>=!]=?|\*\*|//|[-+*/%|&]=?)(?=[\s(\[])", self._text(start, end)
        )
        if match:
            offset = len(self._text(start, end)[: match.start()].encode())
            yield self._edit(start + offset, match[0], after, function)

    def _sql(self, node: ast.AST, function: str | None) -> Iterator[Mutation]:
        if isinstance(node, ast.JoinedStr) or (isinstance(node, ast.Constant) and isinstance(node.value, str)):
            start, end = self._span(node)
            text = self._text(start, end)
            if "internal." not in text or node.lineno == node.end_lineno:
                return
            taken: set[int] = set()
            for pattern, after in SQL:
                for match in re.finditer(pattern, text):
                    if match.start() not in taken:
                        taken.add(match.start())
                        yield self._edit(start + len(text[: match.start()].encode()), match[0], after, function)

    def _span(self, node: ast.AST) -> tuple[int, int]:
        where = node if isinstance(node, ast.expr | ast.stmt | ast.keyword) else None
        assert where is not None
        assert where.end_lineno is not None
        assert where.end_col_offset is not None
        start = self._starts[where.lineno - 1] + where.col_offset
        return start, self._starts[where.end_lineno - 1] + where.end_col_offset

    def _text(self, start: int, end: int) -> str:
        return self._source.encode()[start:end].decode()


def _children(node: ast.AST) -> list[ast.AST]:
    """The parts of a node that run: no annotations, no decorators, no bases."""
    if isinstance(node, ast.AnnAssign):
        return [node.value] if node.value else []
    if isinstance(node, ast.Raise):  # texts of errors do not count
        return []
    if isinstance(node, ast.Call) and ast.unparse(node.func) == "zip":  # `strict` only finds mistakes
        return list(node.args)
    return list(ast.iter_child_nodes(node))


def _has_no_behaviour(node: ast.AST) -> bool:
    """True for imports, docstrings, types and lines of a log."""
    if isinstance(node, ast.Import | ast.ImportFrom | ast.Assert):
        return True
    if isinstance(node, ast.FunctionDef) and node.name.startswith("_log"):
        return True
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
        return True
    if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
        return True
    if (
        isinstance(node, ast.Assign)
        and isinstance(node.value, ast.Subscript)
        and ast.unparse(node.targets[0])[:1].isupper()
    ):
        return True  # a name for a type
    call = node.value if isinstance(node, ast.Expr) else node
    if isinstance(call, ast.Call):
        words = ast.unparse(call.func).split(".")
        if words == ["super()", "__init__"]:  # the text of an error
            return True
        return bool({words[0], *words[1:2]} & LOGGING) or words[-1] in NO_BEHAVIOUR or words[-1].startswith("_log")
    return False


def _is_text(node: ast.BinOp) -> bool:
    """True for a text that is put together or formatted, and for a union of types."""
    sides = [node.left, node.right]
    if any(
        isinstance(side, ast.JoinedStr) or (isinstance(side, ast.Constant) and isinstance(side.value, str))
        for side in sides
    ):
        return True
    if isinstance(node.op, ast.BitOr):
        return any(isinstance(side, ast.Constant) or ast.unparse(side)[:1].isupper() for side in sides)
    return isinstance(node.op, ast.Mod) and "sql" in ast.unparse(node.left)


def _replacements(node: ast.AST) -> Iterator[tuple[ast.AST, str]]:
    """Nodes and the text that replaces each of them."""
    if isinstance(node, ast.Constant):
        yield from ((node, after) for after in _constants(node.value))
    elif isinstance(node, ast.BoolOp):
        yield from _boolean(node)
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.Not | ast.USub):
        yield node, f"({ast.unparse(node.operand)})"
    elif isinstance(node, ast.Call):
        yield from _arguments(node)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield node.test, f"(not ({ast.unparse(node.test)}))"
    elif isinstance(node, ast.comprehension):
        yield from ((test, f"(not ({ast.unparse(test)}))") for test in node.ifs)
    elif isinstance(node, ast.stmt):
        yield from _statement(node)


def _constants(value: object) -> Iterator[str]:
    if isinstance(value, bool):
        yield repr(not value)
    elif isinstance(value, int | float):
        yield from (f"{value + 1}", f"({value - 1})")


def _boolean(node: ast.BoolOp) -> Iterator[tuple[ast.AST, str]]:
    other = " or " if isinstance(node.op, ast.And) else " and "
    parts = [f"({ast.unparse(value)})" for value in node.values]
    yield node, f"({other.join(parts)})"
    for left_out in range(len(parts)):
        same = " and " if isinstance(node.op, ast.And) else " or "
        yield node, f"({same.join(part for index, part in enumerate(parts) if index != left_out)})"


def _arguments(node: ast.Call) -> Iterator[tuple[ast.AST, str]]:
    arguments = node.args
    has_order = ast.unparse(node.func) not in {"min", "max"}
    if len(arguments) > 1 and has_order and not any(isinstance(one, ast.Starred) for one in arguments[:2]):
        swapped = ast.Call(node.func, [arguments[1], arguments[0], *arguments[2:]], node.keywords)
        yield node, ast.unparse(swapped)


def _statement(node: ast.stmt) -> Iterator[tuple[ast.AST, str]]:
    if isinstance(node, ast.Return) and node.value is not None:
        is_none = isinstance(node.value, ast.Constant) and node.value.value is None
        if not is_none:
            yield node, "return None"
    removable = ast.Expr | ast.AugAssign | ast.Continue | ast.Break | ast.Raise | ast.Delete
    if isinstance(node, removable):
        yield node, "pass"
    if isinstance(node, ast.Assign) and any(isinstance(one, ast.Attribute | ast.Subscript) for one in node.targets):
        yield node, "pass"
