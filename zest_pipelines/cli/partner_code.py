"""What is wrong in a partner's own folder, told to its author: file, line and next step.

Imports nothing of a partner, so that it can speak where the registry cannot be imported.
"""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import partners
from zest_pipelines.cli.options import InputError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from partners.certification.bench import Bench, BenchMaker

_REGISTRY = "partners/registry.py"


def import_fault(error: BaseException) -> str | None:
    """The sentence of what broke while a module of `partners` was imported; None for all else.

    The message of such an error is of code, and of nobody's data.
    """
    frames = _frames(error)
    if not any(name == "<module>" for _, _, name in frames) and not _is_syntax(error):
        return None
    step = "Mend it there"
    if isinstance(error, ModuleNotFoundError) and (error.name or "").startswith("partners."):
        step = f"Bring the module back; if its folder is gone on purpose, take its line out of {_REGISTRY}"
    return f"{_place(error)}: {_said(error)}. {step}"


def benches(name: str) -> Mapping[str, BenchMaker]:
    """As `benches_of`. InputError if there is none, or it cannot be imported."""
    from partners.certification.bench import BenchMissingError, benches_of

    file = f"partners/{name}/sandbox/bench.py"
    try:
        return benches_of(name)
    except BenchMissingError as error:
        raise InputError(str(error)) from None
    except AttributeError as error:
        if error.name == "running_bench":
            raise InputError(
                f"{file} has no running_bench(): write it there (CONTRIBUTING.md, Adding a partner)"
            ) from None
        raise InputError(f"{_place(error) or file}: {_said(error)}. Mend it there") from None
    except Exception as error:  # noqa: BLE001  # whatever it is, it is the author's to mend
        raise InputError(f"{_place(error) or file}: {_said(error)}. Mend it there") from None


@contextmanager
def running(name: str, maker: BenchMaker) -> Iterator[Bench]:
    """The bench at its sandbox. InputError if that does not start."""
    from partners.certification.bench import Bench, BenchMissingError

    file = f"partners/{name}/sandbox/bench.py"
    with ExitStack() as stack:
        try:
            bench = stack.enter_context(maker())
        except BenchMissingError as error:
            raise InputError(str(error)) from None
        except Exception as error:  # noqa: BLE001  # the same
            place = _place(error) or file
            raise InputError(f"{place}: the sandbox does not start: {_said(error)}. Mend it there") from None
        if not isinstance(bench, Bench):
            raise InputError(f"{file}: running_bench() yields no certification.bench.Bench: have it yield one")
        yield bench


def _said(error: BaseException) -> str:
    text = (error.msg if isinstance(error, SyntaxError) else str(error)).strip().rstrip(".")
    return f"{type(error).__name__}{': ' if text else ''}{text}"


def _place(error: BaseException) -> str:
    """The newest line of a partner's that led to it; empty: none did."""
    if _is_syntax(error):
        assert isinstance(error, SyntaxError)
        return f"{_shown(error.filename or '')}, line {error.lineno}"
    return next((f"{_shown(file)}, line {line}" for file, line, _ in reversed(_frames(error))), "")


def _frames(error: BaseException) -> list[tuple[str, int | None, str]]:
    found = traceback.extract_tb(error.__traceback__)
    return [(each.filename, each.lineno, each.name) for each in found if _is_partners(each.filename)]


def _is_syntax(error: BaseException) -> bool:
    return isinstance(error, SyntaxError) and _is_partners(error.filename or "")


def _is_partners(file: str) -> bool:
    """Within a partner's folder, or the registry."""
    for root in map(Path, partners.__path__):
        if Path(file).is_relative_to(root):
            return Path(file).relative_to(root).parts[0] != "certification"
    return False


def _shown(file: str) -> str:
    root = next((Path(root) for root in partners.__path__ if Path(file).is_relative_to(root)), Path("/"))
    return f"partners/{Path(file).relative_to(root)}"
