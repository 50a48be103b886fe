"""How a rule is broken in this process: a name is given a broken twin for as long as a block lasts."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

Swap = tuple[object, str, Callable[[Any], Any]]
"""An owner, one of its names, and what makes the broken one of the real one."""


@contextmanager
def swapped(swaps: Sequence[Swap]) -> Iterator[None]:
    """Within the block, all of them are broken."""
    with ExitStack() as stack:
        for owner, name, broken in swaps:
            stack.enter_context(patch.object(owner, name, broken(getattr(owner, name))))
        yield
