"""From a source file to its mutants: small edits of the text, found in the syntax tree.
What is left alone: docstrings, messages and what raises them, annotations, decorators, imports, `__repr__`.
"""
from __future__ import annotations

import ast
import difflib
import hashlib
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
FILES = ("kernels/reference.py", "kernels/reference_training.py", "losses.py", "penalties.py", "optim/*.py",
         "layers/*.py", "models/*.py")
FAST_FILES = ("kernels/fast_*.py",)

ARITHMETIC = {ast.Add: ("+", "-"), ast.Sub: ("-", "+"), ast.Mult: ("*", "/"), ast.Div: ("/", "*"),
              ast.Mod: ("%", "//")}
COMPARISONS = {ast.Lt: ("<", "<=", ">="), ast.LtE: ("<=", "<", ">"), ast.Gt: (">", ">=", "<="),
               ast.GtE: (">=", ">", "<"), ast.Eq: ("==", "!="), ast.NotEq: ("!=", "=="), ast.Is: ("is", "is not"),
               ast.IsNot: ("is not", "is"), ast.In: ("in", "not in"), ast.NotIn: ("not in", "in")}
AUGMENTED = {ast.Add: ("+=", "=", "-="), ast.Sub: ("-=", "=", "+="), ast.Mult: ("*=", "=", "/="),
             ast.Div: ("/=", "=", "*=")}
TWINS = {"sum": "mean", "max": "min", "argmax": "argmin", "any": "all", "floor": "ceil", "maximum": "minimum",
         "zeros": "ones", "zeros_like": "ones_like", "exp": "expm1", "log": "log1p", "random": "standard_normal"}
TWINS |= {new: old for old, new in TWINS.items()}
CHANGES_NOTHING_OF_THE_SHAPE = ("copy", "astype", "transpose", "clip")
SYMMETRIC = ("isinstance", "issubclass", "getattr", "setattr", "zip", "max", "min")
QUIET = ("__repr__", "__str__")


@dataclass(frozen=True)
class Mutant:
    """In a file (its path below the root), the bytes from start to end are replaced by `text`.

    `id` stays the same while the statement does: "losses.py:Gaussian.constant:swap:1f0c2a77".
    """

    id: str
    file: str
    function: str
    operator: str
    start: int
    end: int
    text: str
    lines: tuple[int, ...]
    """Of the statement: a test that runs none of them cannot see the mutant."""
    place: str
    """Where in the running process the edit has to be made: "body", "default", "class" or "module"."""

    def source(self) -> str:
        """The whole file with the mutant in it."""
        data = (ROOT / self.file).read_bytes()
        return (data[:self.start] + self.text.encode() + data[self.end:]).decode()

    def diff(self, context: int = 0) -> str:
        """The changed lines."""
        old, new = (text.splitlines() for text in ((ROOT / self.file).read_text(), self.source()))
        return "\n".join(list(difflib.unified_diff(old, new, self.file, self.file, lineterm="", n=context))[2:])


def files(patterns: tuple[str, ...] = FILES) -> list[str]:
    """The paths that the patterns name, below the root."""
    return [str(path.relative_to(ROOT)) for pattern in patterns for path in sorted((ROOT / "npae").glob(pattern))]


def mutants(file: str) -> list[Mutant]:
    """All mutants of one file, in the order of its lines."""
    return list(_Maker(file, (ROOT / file).read_bytes()).all())


class _Maker:
    """Walks the syntax tree of a file. An edit is (start, end, new text, operator); offsets count bytes."""

    def __init__(self, file: str, data: bytes):
        self.file, self.data = file, data
        self.starts = [0]
        for line in data.splitlines(keepends=True):
            self.starts.append(self.starts[-1] + len(line))
        self.seen: set[tuple[int, int, str]] = set()
        self.ids: dict[str, int] = {}

    def all(self) -> Iterator[Mutant]:
        yield from self._block(ast.parse(self.data).body, "", "module")

    # ---- where a node stands

    def at(self, node: ast.AST) -> tuple[int, int]:
        return (self.starts[node.lineno - 1] + node.col_offset, self.starts[node.end_lineno - 1] + node.end_col_offset)

    def text(self, start: int, end: int) -> str:
        return self.data[start:end].decode()

    def of(self, node: ast.AST) -> str:
        return self.text(*self.at(node))

    def between(self, left: ast.AST, right: ast.AST, symbol: str) -> tuple[int, int]:
        """Where the symbol stands between two nodes (with their brackets, which belong to neither)."""
        start = self.data.index(symbol.encode(), self.at(left)[1], self.at(right)[0])
        return start, start + len(symbol)

    # ---- statements

    def _block(self, body: list[ast.stmt], function: str, place: str) -> Iterator[Mutant]:
        for statement in body:
            yield from self._statement(statement, function, place)

    def _statement(self, node: ast.stmt, function: str, place: str) -> Iterator[Mutant]:
        path = f"{function}.{getattr(node, 'name', '')}".lstrip(".")
        if isinstance(node, ast.ClassDef):
            yield from self._block(node.body, path, "class")
        elif isinstance(node, ast.FunctionDef):
            if node.name in QUIET:
                return
            for default in [*node.args.defaults, *(d for d in node.args.kw_defaults if d)]:
                yield from self._made(node, path, self._expression(default), "body" if place == "body" else "default")
            yield from self._block(node.body, path, "body")
        elif place == "body" and isinstance(node, ast.If | ast.For | ast.While | ast.With | ast.Try):
            yield from self._made(node, function, self._header(node), place)
            for part in (node.body, getattr(node, "orelse", []), getattr(node, "finalbody", [])):
                yield from self._block(part, function, place)
            for handler in getattr(node, "handlers", []):
                yield from self._block(handler.body, function, place)
        elif place != "body" and not isinstance(node, ast.Assign | ast.AnnAssign):
            return
        elif not isinstance(node, ast.Raise | ast.Import | ast.ImportFrom):
            yield from self._made(node, function, self._simple(node, function, place), place)

    def _made(self, node: ast.stmt, function: str, edits: Iterator, place: str) -> Iterator[Mutant]:
        """Mutants of the edits of one statement; of a compound one the header alone counts."""
        first, last = self.at(node)
        body = getattr(node, "body", None)
        last_line = body[0].lineno - 1 if body else node.end_lineno
        lines = tuple(range(node.lineno, max(last_line, node.lineno) + 1))
        said = self.text(first, self.starts[lines[-1]] if body else last).strip()
        for start, end, new, operator in edits:
            if (start, end, new) in self.seen or new == self.text(start, end):
                continue
            self.seen.add((start, end, new))
            digest = hashlib.sha1(f"{said}|{start - first}|{new}".encode()).hexdigest()[:8]
            name = f"{self.file.removeprefix('npae/')}:{function or '<module>'}:{operator}:{digest}"
            self.ids[name] = self.ids.get(name, 0) + 1
            yield Mutant(name + (f".{self.ids[name]}" if self.ids[name] > 1 else ""), self.file, function, operator,
                         start, end, new, lines, place)

    def _header(self, node: ast.stmt) -> Iterator:
        if isinstance(node, ast.If):
            if self.of(node.test) == "TYPE_CHECKING":
                return
            yield *self.at(node.test), f"not ({self.of(node.test)})", "negate"
        for part in (getattr(node, "test", None), getattr(node, "iter", None),
                     *(item.context_expr for item in getattr(node, "items", []))):
            if part is not None:
                yield from self._expression(part)

    def _simple(self, node: ast.stmt, function: str, place: str) -> Iterator:
        kept = "__class__" if b"super()" in self.data[slice(*self.at(node))] else "pass"  # a method stays a closure
        targets = getattr(node, "targets", [])
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            return
        if any(isinstance(target, ast.Name) and target.id.startswith("__") for target in targets):
            return
        if isinstance(node, ast.AugAssign):
            symbol, *others = AUGMENTED.get(type(node.op), ("",))
            for other in others:
                yield *self.between(node.target, node.value, symbol), other, "augmented"
        written = targets and all(isinstance(target, ast.Attribute | ast.Subscript) for target in targets)
        if place == "body" and (isinstance(node, ast.AugAssign | ast.Expr)
                                or (written and not function.endswith("__init__"))):
            yield *self.at(node), kept, "drop-statement"
        for part in (*(t for t in targets if isinstance(t, ast.Subscript)), getattr(node, "target", None),
                     getattr(node, "value", None), getattr(node, "test", None)):
            if part is not None:
                yield from self._expression(part)

    # ---- expressions

    def _expression(self, node: ast.AST) -> Iterator:
        if isinstance(node, ast.JoinedStr):
            return
        yield from getattr(self, f"_{type(node).__name__}", lambda node: ())(node)
        for child in ast.iter_child_nodes(node):
            yield from self._expression(child)

    def _parts(self, node: ast.AST, nodes: list[ast.AST], symbol: str) -> list[str]:
        """The operands as they are written, with their brackets."""
        parts, start = [], self.at(node)[0]
        for left, right in itertools.pairwise(nodes):
            at, after = self.between(left, right, symbol)
            parts.append(self.text(start, at).strip())
            start = after
        return [*parts, self.text(start, self.at(node)[1]).strip()]

    def _BinOp(self, node: ast.BinOp) -> Iterator:
        nodes, at = [node.left, node.right], self.at(node)
        if type(node.op) in ARITHMETIC:
            symbol, other = ARITHMETIC[type(node.op)]
            yield *self.between(*nodes, symbol), other, "arithmetic"
        elif isinstance(node.op, ast.Pow):
            symbol = "**"
            yield *at, f"({' * '.join(self._parts(node, nodes, symbol))})", "arithmetic"
        elif isinstance(node.op, ast.FloorDiv):
            symbol = "//"
            left, right = self._parts(node, nodes, symbol)
            yield *at, f"(-(-({left}) // {right}))", "arithmetic"
        else:
            return
        for part in self._parts(node, nodes, symbol):
            yield *at, part, "drop-operand"

    def _UnaryOp(self, node: ast.UnaryOp) -> Iterator:
        start, end = self.at(node)
        if isinstance(node.op, ast.USub | ast.Not):
            yield start, end, self.text(start, end).removeprefix("not").removeprefix("-").strip(), "drop-sign"

    def _Compare(self, node: ast.Compare) -> Iterator:
        nodes = [node.left, *node.comparators]
        for left, op, right in zip(nodes, node.ops, nodes[1:], strict=False):
            symbol, *others = COMPARISONS[type(op)]
            for other in others:
                yield *self.between(left, right, symbol), other, "comparison"

    def _BoolOp(self, node: ast.BoolOp) -> Iterator:
        symbol, other = ("and", "or") if isinstance(node.op, ast.And) else ("or", "and")
        parts = self._parts(node, node.values, symbol)
        yield *self.at(node), f"({f' {other} '.join(parts)})", "and-or"
        for i in range(len(parts)):
            yield *self.at(node), f"({f' {symbol} '.join(parts[:i] + parts[i + 1:])})", "drop-operand"

    def _Constant(self, node: ast.Constant) -> Iterator:
        value = node.value
        if isinstance(value, bool):
            others = [not value]
        elif isinstance(value, int):
            others = [value + 1, *([value - 1] if value > 0 else [])]
        elif isinstance(value, float):
            others = [2 * value or 1.0]
        else:
            return
        for other in others:
            yield *self.at(node), repr(other), "constant"

    def _Attribute(self, node: ast.Attribute) -> Iterator:
        end = self.at(node)[1]
        if node.attr == "T":
            yield self.at(node.value)[1], end, "" if self._bare(node) else ")", "transpose"
        if node.attr in TWINS:
            yield end - len(node.attr), end, TWINS[node.attr], "twin"
        if node.attr == "float64":
            yield end - len(node.attr), end, "float32", "precision"

    def _bare(self, node: ast.Attribute) -> bool:
        return b")" not in self.data[self.at(node.value)[1]:self.at(node)[1]]

    def _Name(self, node: ast.Name) -> Iterator:
        if node.id in ("max", "min", "any", "all"):
            yield *self.at(node), TWINS[node.id], "twin"

    def _IfExp(self, node: ast.IfExp) -> Iterator:
        yield *self.at(node.test), f"not ({self.of(node.test)})", "negate"

    def _comprehension(self, node: ast.comprehension) -> Iterator:
        for test in node.ifs:
            yield *self.at(test), f"not ({self.of(test)})", "negate"

    def _Slice(self, node: ast.Slice) -> Iterator:
        for bound in (node.lower, node.upper, node.step):
            if bound is not None:
                yield *self.at(bound), "", "slice"

    def _Call(self, node: ast.Call) -> Iterator:
        name, at, args = getattr(node.func, "attr", getattr(node.func, "id", "")), self.at(node), node.args
        plain = not node.keywords and not any(isinstance(arg, ast.Starred) for arg in args)
        if name == "where" and len(args) == 3:
            spans = [self.at(args[1]), self.at(args[2])]
            between = self.text(spans[0][1], spans[1][0])
            yield spans[0][0], spans[1][1], f"{self.of(args[2])}{between}{self.of(args[1])}", "where"
        elif name == "range" and plain:
            yield *self.at(args[0]), f"{self.of(args[0])} {'-' if len(args) == 1 else '+'} 1", "range"
        elif name in CHANGES_NOTHING_OF_THE_SHAPE and isinstance(node.func, ast.Attribute) and (
                self.of(node.func.value) != "copy"):
            yield *at, self.text(at[0], self.data.rindex(b".", at[0], self.at(node.func)[1])).rstrip(), "drop-call"
        elif plain and len(args) == 1 and (name in ("abs", "float", "int")
                                           or self.of(node.func).startswith(("np.", "math."))):
            yield *at, f"({self.of(args[0])})", "drop-call"
        if (name not in SYMMETRIC and len(args) > 1 and all(isinstance(arg, ast.Name) for arg in args[:2])):
            a, b = args[:2]
            yield (self.at(a)[0], self.at(b)[1],
                   f"{self.of(b)}{self.text(self.at(a)[1], self.at(b)[0])}{self.of(a)}", "arguments")
