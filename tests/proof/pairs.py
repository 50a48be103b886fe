"""A small set of cases in which any two values of different factors come together at least once."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

Case = tuple[Any, ...]


def pairwise(*factors: Sequence[Any]) -> list[Case]:
    """Cases, one value a factor, that hold every pair of values of two factors; always the same ones."""
    every = list(itertools.product(*factors))
    wanted = {pair for case in every for pair in _pairs(case)}
    chosen = list[Case]()
    while wanted:
        best = max(every, key=lambda case: len(_pairs(case) & wanted))
        chosen.append(best)
        wanted -= _pairs(best)
    return chosen


def _pairs(case: Case) -> set[tuple[tuple[int, Any], ...]]:
    return set(itertools.combinations(enumerate(case), 2))
