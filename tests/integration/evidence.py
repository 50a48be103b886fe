"""What a test has seen told: the proof that a reason of the catalogue comes about, with all that its sentences mention.

A test that drives a real path (HTTP, PostgreSQL, a command) hands the code and the parameters that came out of it to
`is_told`. `evidence()` finds these calls in the source, so that the catalogue's check can say which reason no test
brings about, and `docs/errors.md` which test does.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

from partners.params import shown
from partners.reasons import Language, explain, reason

TESTS = Path(__file__).parents[1]
ROOMS = ("acceptance", "browser", "contract", "integration")
"""Where tests drive the real thing; a unit test of the catalogue proves nothing."""
_A_NUMBER = "4C7DFGHJ"

Sentences = tuple[str, str]


def is_told(code: str, params: Mapping[str, str] | None = None) -> dict[Language, Sentences]:
    """Message and action in each language, as they are shown for what the path gave.

    `params`: what came out of the path; without the reference, which is filled in by whoever renders.
    """
    known = reason(code)
    given = dict(params or {})
    missing = known.parameters() - given.keys()
    assert not missing, f"{code} was told without {sorted(missing)}"
    assert all(given[name] for name in known.parameters()), f"{code} was told with nothing for one of its parameters"
    told = {language: explain(code, given | {"reference": _A_NUMBER}, language) for language in Language}
    for language, sentences in told.items():
        text = " ".join(sentences)
        assert "{" not in text
        kept_back = [name for name in known.parameters() if shown(name, given[name], language) not in text]
        assert not kept_back, f"{code} keeps {kept_back} back in {language}"
    return told


def evidence(root: Path = TESTS, rooms: Collection[str] = ROOMS) -> Mapping[str, tuple[str, ...]]:
    """By code: the tests (file and name) that have seen it told."""
    found: dict[str, set[str]] = defaultdict(set)
    for path in sorted(path for room in rooms for path in root.glob(f"{room}/**/test_*.py")):
        for code, test in told_in(path.read_text(encoding="utf-8")):
            found[code].add(f"{path.relative_to(root)}::{test}")
    return {code: tuple(sorted(tests)) for code, tests in sorted(found.items())}


def told_in(text: str) -> Iterator[tuple[str, str]]:
    """Code and test of each call of `is_told` in a file: the code is a literal, or the test is parametrized by it."""
    tree = ast.parse(text)
    sets = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    } | {
        node.target.id: node.value
        for node in tree.body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value is not None
    }
    for test in (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef) and node.name[:5] == "test_"):
        for call in (node for node in ast.walk(test) if isinstance(node, ast.Call) and node.args):
            if isinstance(call.func, ast.Name) and call.func.id == "is_told":
                yield from ((code, test.name) for code in _codes(call.args[0], test, sets))


def _codes(argument: ast.expr, test: ast.FunctionDef, sets: Mapping[str, ast.expr]) -> Iterator[str]:
    match argument:
        case ast.Constant(value=str() as code):
            yield code
        case ast.Name(id=name):
            yield from (code for mark in test.decorator_list for code in _parametrized(mark, name, sets))
        case ast.Attribute(value=ast.Name(id=name), attr="reason"):
            yield from (code for mark in test.decorator_list for code in _parametrized(mark, name, sets))
        case _:
            raise AssertionError(f"{test.name} tells a code that cannot be read from its source")


def _parametrized(mark: ast.expr, name: str, sets: Mapping[str, ast.expr]) -> Iterator[str]:
    """The values that a parametrize mark gives to one of its names."""
    match mark:
        case ast.Call(func=ast.Attribute(attr="parametrize"), args=[names, values, *_]):
            listed = _names(names)
            rows = sets.get(values.id) if isinstance(values, ast.Name) else values
            if name not in listed or not isinstance(rows, ast.List | ast.Tuple):
                return
            for row in (each for each in rows.elts if not isinstance(each, ast.Starred)):
                cells = row.args if isinstance(row, ast.Call) else row.elts if isinstance(row, ast.Tuple) else [row]
                cell = cells[listed.index(name)]
                if isinstance(cell, ast.Call) and cell.args:  # a reply, of which it is the reason
                    cell = cell.args[0]
                if isinstance(cell, ast.Constant) and isinstance(cell.value, str):
                    yield cell.value


def _names(node: ast.expr) -> list[str]:
    match node:
        case ast.Constant(value=str() as text):
            return [each.strip() for each in text.split(",")]
        case ast.Tuple(elts=parts) | ast.List(elts=parts):
            return [str(each.value) for each in parts if isinstance(each, ast.Constant)]
    return []
