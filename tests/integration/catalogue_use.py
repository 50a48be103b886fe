"""Which codes of the catalogue the code gives, and at which places it gives any.

Read from the source, by its syntax. A *place* is what takes a code: a parameter or a field, the values of a table, what
a function returns, what a name is compared with. One that is called `reason` takes codes whatever is given there; any
other one does if a code of the catalogue is given there at least once. A literal that is given at such a place and is
not in the catalogue is a mistake; and a code that stands in the source, but at no such place, is one that this reading
would miss if it were misspelt (`unguarded`).
"""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

ROOT = Path(__file__).parents[2]
NAMED_SO = frozenset({"reason", "problem", "stopped", "stops", "warning", "hindrance"})
"""Parameters, fields and columns that hold a code; some of these names mean free text where no literal is given."""
_CODE_IS_OURS = ("zest_pipelines/orchestration/", "zest_pipelines/cli/")
"""Where `code` is a reason's; elsewhere it may be a partner's."""
_OTHER_WORDS = frozenset({("zest_pipelines/store/archive.py", "reason")})
"""Places that are called so and hold something else: what keeps a month from being put away."""
_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_LEFT_OUT = ("sandbox", "certification")
"""They play the partner's part, and try what comes out; they give no reason of ours."""

Place = tuple[str, ...]


@dataclass(frozen=True)
class Given:
    """A literal that is given at a place."""

    text: str
    place: Place
    where: str
    """File and line."""


@dataclass(frozen=True)
class Source:
    """A file of the project."""

    path: str
    text: str

    @cached_property
    def tree(self) -> ast.Module:
        """Of a Python file."""
        return ast.parse(self.text)


def sources(root: Path = ROOT) -> tuple[Source, ...]:
    """All that can give a reason: Python, and the SQL of the migrations."""
    found = [
        *root.glob("partners/**/*.py"),
        *root.glob("zest_pipelines/**/*.py"),
        *root.glob("zest_pipelines/**/*.sql"),
    ]
    paths = sorted(path for path in found if not set(_LEFT_OUT) & set(path.relative_to(root).parts))
    return tuple(Source(str(path.relative_to(root)), path.read_text(encoding="utf-8")) for path in paths)


class Use:
    """What some sources give."""

    def __init__(self, read: Collection[Source], catalogue: Collection[str]) -> None:
        """`catalogue`: the codes that there are."""
        self._catalogue = frozenset(catalogue)
        python = [each for each in read if each.path.endswith(".py")]
        given = [*_Reading(python).given(), *(each for source in read for each in _given_in_sql_of(source))]
        self._given = [each for each in given if each.place not in _OTHER_WORDS and each.place[-1] != "name"]
        self._names = {f"{each.where}: {each.text}" for each in given if each.place[-1] == "name"}
        self._at: dict[Place, list[Given]] = defaultdict(list)
        for each in self._given:
            self._at[each.place].append(each)
        self._literals = [literal for each in read for literal in _literals(each)]

    @cached_property
    def used(self) -> frozenset[str]:
        """Codes of the catalogue that are given somewhere."""
        return frozenset(given.text for given in self._given if self._takes_codes(given.place)) & self._catalogue

    @cached_property
    def missing(self) -> tuple[Given, ...]:
        """What is given as a code and is none."""
        return tuple(
            given
            for given in self._given
            if given.text not in self._catalogue and self._takes_codes(given.place) and _CODE.fullmatch(given.text)
        )

    @cached_property
    def unguarded(self) -> tuple[str, ...]:
        """Where a code stands that would not be missed if it were another word: file, line and code."""
        guarded: set[str] = set()
        for given in self._given:
            others = {each.text for each in self._at[given.place]} - {given.text}
            if is_named_so(given.place) or any(map(self._is_telling, others)):
                guarded.add(f"{given.where}: {given.text}")
        guarded |= self._names
        return tuple(each for each in self._literals if self._is_telling(each.split(": ")[1]) and each not in guarded)

    def _takes_codes(self, place: Place) -> bool:
        return is_named_so(place) or any(self._is_telling(given.text) for given in self._at[place])

    def _is_telling(self, text: str) -> bool:
        """Whether it is surely meant as a code: a word such as `unknown` is an outcome too."""
        return text in self._catalogue and "_" in text


def is_named_so(place: Place) -> bool:
    """Whether the name alone says that a code is given there."""
    return place[-1] in NAMED_SO or (place[-1] == "code" and place[0].startswith(_CODE_IS_OURS))


def _literals(source: Source) -> Iterator[str]:
    if source.path.endswith(".sql"):
        yield from (f"{source.path}:{line}: {text}" for line, text in _quoted(source.text))
        return
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _CODE.fullmatch(node.value):
                yield f"{source.path}:{node.lineno}: {node.value}"
            elif "/store/" in source.path:
                yield from (f"{source.path}:{node.lineno}: {text}" for _, text in _quoted(node.value))


def _quoted(sql: str) -> Iterator[tuple[int, str]]:
    for match in re.finditer(r"'([a-z][a-z0-9_]*)'", sql):
        yield sql.count("\n", 0, match.start()) + 1, match[1]


# --- Python -----------------------------------------------------------------------------------------------------------

_HOLDS_ITS_ARGUMENT = frozenset({"frozenset", "set", "tuple", "get", "fromkeys"})
"""Calls that take anything: what they are given belongs where they stand."""

Found = tuple[Place, ast.Constant, str]
"""A place, the literal that is given there, and the file that it stands in."""


class _Reading:
    """The Python files, read together: a call may be of a function, and a name of a constant, of another file."""

    def __init__(self, read: Collection[Source]) -> None:
        self._read = read
        self._parameters: dict[str, set[tuple[str, ...]]] = defaultdict(set)
        self._bases: dict[str, str] = {}
        self._values: dict[str, list[tuple[ast.expr, str]]] = defaultdict(list)
        """Of a name: what it is set to, and in which file."""
        for source in read:
            self._learn(source)

    def given(self) -> Iterator[Given]:
        """Each literal at each place where it is given."""
        for source in self._read:
            for node in ast.walk(source.tree):
                for place, literal, path in self._places(source, node):
                    yield Given(str(literal.value), place, f"{path}:{literal.lineno}")

    def _learn(self, source: Source) -> None:
        members = {id(each) for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef) for each in node.body}
        for node in ast.walk(source.tree):
            match node:
                case ast.ClassDef(name=name):
                    if node.bases:
                        self._bases[name] = _last(node.bases[0])
                    if taken := _fields(node):
                        self._parameters[_key(source.path, name)].add(taken)
                case ast.FunctionDef(name=name, args=args) if name != "__init__":
                    names = [each.arg for each in (*args.posonlyargs, *args.args)][id(node) in members :]
                    self._parameters[_key(source.path, name)].add(tuple(names))
                    returned = (each.value for each in ast.walk(node) if isinstance(each, ast.Return) and each.value)
                    self._values[f"{source.path}:{name}()"] += [(value, source.path) for value in returned]
                case ast.Assign() | ast.AnnAssign() if id(node) not in members:
                    for target, value in _set(node):
                        if isinstance(target, ast.Name):
                            self._values[_constant(source.path, target.id)].append((value, source.path))

    def _signatures(self, path: str, name: str) -> Collection[tuple[str, ...]]:
        """The parameters of whatever is called so; a class that says none takes its base's."""
        while not (found := self._parameters.get(_key(path, name))) and name in self._bases:
            name = self._bases[name]
        return found or ()

    def _places(self, source: Source, node: ast.AST) -> Iterator[Found]:
        here = source.path
        match node:
            case ast.Call():
                yield from self._arguments(here, node, _last(node.func))
            case ast.ClassDef():
                yield from self._in_class(here, node)
            case ast.Assign() | ast.AnnAssign():
                for target, value in _set(node):
                    yield from self._at((here, _last(target)), here, value)
                    yield from (((here, f"{_last(target)} by"), *each) for each in self._keys(here, value))
            case ast.FunctionDef():
                last = node.args.args[len(node.args.args) - len(node.args.defaults) :]
                for parameter, default in zip(last, node.args.defaults, strict=True):
                    yield from self._at((_key(here, node.name), parameter.arg), here, default)
                for each in ast.walk(node):
                    if isinstance(each, ast.Return) and each.value is not None:
                        yield from self._at((here, f"returned by {node.name}"), here, each.value)
            case ast.Compare():
                sides = [node.left, *node.comparators]
                for name in filter(None, map(_name, sides)):
                    for side in sides:
                        yield from self._at((here, "compared", name), here, side)
                        yield from (((here, "compared", name), *each) for each in self._keys(here, side))
            case ast.Match():
                for pattern in (case.pattern for case in node.cases):
                    for literal in _matched(pattern):
                        yield (here, "compared", _name(node.subject) or ""), literal, here
            case ast.MatchClass(cls=kind, patterns=patterns):
                for signature in self._signatures(here, _last(kind)):
                    for parameter_name, pattern in zip(signature, patterns, strict=False):
                        yield from (((_last(kind), parameter_name), each, here) for each in _matched(pattern))

    def _arguments(self, here: str, node: ast.Call, name: str) -> Iterator[Found]:
        if name == "get" and isinstance(node.func, ast.Attribute) and node.args:
            place = here, "compared", _name(node.args[0]) or ""
            yield from ((place, *each) for each in self._keys(here, node.func.value))
        if name in _HOLDS_ITS_ARGUMENT:
            return
        key = _key(here, name)
        signatures = self._signatures(here, name)
        for number, argument in enumerate(node.args):
            parameters = {each[number] for each in signatures if number < len(each)} or {str(number)}
            for parameter in parameters & NAMED_SO or parameters:
                yield from self._at((key, parameter), here, argument)
        for keyword in node.keywords:
            yield from self._at((key, keyword.arg or ""), here, keyword.value)

    def _in_class(self, here: str, node: ast.ClassDef) -> Iterator[Found]:
        """Its members, if it is an enum; and what it hands to its base."""
        for each in node.body:
            if isinstance(each, ast.Assign) and isinstance(each.value, ast.Constant):
                yield from self._at((here, f"member of {node.name}"), here, each.value)
        for call in (each for each in ast.walk(node) if isinstance(each, ast.Call)):
            if _last(call.func) == "__init__" and node.bases:
                yield from self._arguments(here, call, _last(node.bases[0]))

    def _at(self, place: Place, here: str, node: ast.expr) -> Iterator[Found]:
        yield from ((place, *each) for each in self._values_of(here, node))

    def _values_of(self, here: str, node: ast.expr, depth: int = 0) -> Iterator[tuple[ast.Constant, str]]:
        """The literals that the expression can be, or can hold if it is a collection."""
        held: list[ast.expr] = []
        match node:
            case ast.Constant(value=str()):
                yield node, here
            case ast.IfExp():
                held = [node.body, node.orelse]
            case ast.BoolOp() | ast.Dict():
                held = node.values
            case ast.Tuple() | ast.List() | ast.Set():
                held = node.elts
            case ast.Starred():
                held = [node.value]
            case ast.Call(func=ast.Attribute(attr="get", value=table), args=[_, default]):
                held = [table, default]
            case ast.Call(func=ast.Attribute(attr="fromkeys"), args=[_, value]):
                held = [value]
            case ast.Call(func=ast.Name(id="frozenset" | "set" | "tuple"), args=[value]):
                held = [value]
            case ast.Call(func=ast.Name(id=name)) if depth < _DEEPEST:
                for value, path in self._values.get(f"{here}:{name}()", ()):
                    yield from self._values_of(path, value, depth + 1)
            case ast.Name() | ast.Attribute() if depth < _DEEPEST:
                for value, path in self._values.get(_constant(here, _last(node)), ()):
                    yield from self._values_of(path, value, depth + 1)
        for each in held:
            yield from self._values_of(here, each, depth)

    def _keys(self, here: str, node: ast.expr) -> Iterator[tuple[ast.Constant, str]]:
        if isinstance(node, ast.Dict):
            for key in filter(None, node.keys):
                yield from self._values_of(here, key)
        elif isinstance(node, ast.Name):
            for value, path in self._values.get(_constant(here, node.id), ()):
                if isinstance(value, ast.Dict):
                    yield from self._keys(path, value)


_DEEPEST = 3
"""Names and calls that stand for others."""


def _set(node: ast.Assign | ast.AnnAssign) -> Iterator[tuple[ast.expr, ast.expr]]:
    """What is set to what."""
    for target in node.targets if isinstance(node, ast.Assign) else [node.target]:
        match target, node.value:
            case ast.Tuple(elts=targets), ast.Tuple(elts=values):
                yield from zip(targets, values, strict=False)
            case _, ast.expr() as value:
                yield target, value


def _fields(node: ast.ClassDef) -> tuple[str, ...]:
    for each in node.body:
        if isinstance(each, ast.FunctionDef) and each.name == "__init__":
            return tuple(arg.arg for arg in each.args.args[1:])
    return tuple(
        each.target.id for each in node.body if isinstance(each, ast.AnnAssign) and isinstance(each.target, ast.Name)
    )


def _key(path: str, name: str) -> str:
    """What a name means: a private one is of its file."""
    return f"{path}:{name}" if name.startswith("_") else name


def _constant(path: str, name: str) -> str:
    """The same of what is set: one in capitals may be meant in other files too."""
    return name if name.isupper() and not name.startswith("_") else f"{path}:{name}"


def _last(node: ast.expr) -> str:
    return ast.unparse(node).split(".")[-1]


def _name(node: ast.expr) -> str | None:
    """By which a value is known where it is compared."""
    match node:
        case ast.Name() | ast.Attribute():
            return _last(node)
        case ast.Subscript(slice=ast.Constant(value=str() as name)):
            return name
    return None


def _matched(pattern: ast.pattern) -> Iterator[ast.Constant]:
    match pattern:
        case ast.MatchValue(value=ast.Constant(value=str()) as value):
            yield value
        case ast.MatchOr():
            yield from (each for one in pattern.patterns for each in _matched(one))


# --- SQL --------------------------------------------------------------------------------------------------------------

_WORD = r"'([a-z][a-z0-9_]*)'"
_NAMES = r"(reason|why|problem)"
_IN_SQL = (
    re.compile(rf"\b{_NAMES}\s*(?:=|<>|IS(?: NOT)? DISTINCT FROM)\s*(?:coalesce\(\w+,\s*)?{_WORD}"),
    re.compile(rf"{_WORD}(?:::text)?\s+AS\s+{_NAMES}\b"),
)
_LIST_IN_SQL = re.compile(rf"\b{_NAMES}\s+(?:NOT )?IN\s*\(([^()]*)\)")
_CASE_IN_SQL = re.compile(r"\bCASE\b.*?\bEND\b(?:[^,;]{0,40}?\bEND\b)?", re.DOTALL)


def _given_in_sql_of(source: Source) -> Iterator[Given]:
    if source.path.endswith(".sql"):
        yield from _given_in_sql(source.path, source.text, 1)
    elif "/store/" in source.path:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for given in _given_in_sql(source.path, node.value, 1):
                    yield Given(given.text, given.place, f"{source.path}:{node.lineno}")


def _given_in_sql(path: str, sql: str, line: int) -> Iterator[Given]:
    """What is compared with a column of that name, becomes one, or is among the results of one CASE."""

    def at(place: Place, text: str, start: int) -> Given:
        return Given(text, place, f"{path}:{line + sql.count(chr(10), 0, start)}")

    for pattern in _IN_SQL:
        for match in pattern.finditer(sql):
            number = next(group for group in (1, 2) if f"'{match[group]}'" in match[0])
            yield at((path, "reason"), match[number], match.start(number))
    for match in _LIST_IN_SQL.finditer(sql):
        for word in re.finditer(_WORD, match[2]):
            yield at((path, "reason"), word[1], match.start(2) + word.start())
    for match in _CASE_IN_SQL.finditer(sql):
        for word in re.finditer(rf"\b(?:THEN|ELSE)\s+{_WORD}", match[0]):
            yield at((path, f"CASE at {match.start()}"), word[1], match.start() + word.start(1))
