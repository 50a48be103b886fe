"""Which runs a tick asks for: at most so many, over contiguous ranges of partition keys.

Dagster can run many partitions in one run only if they are neighbours in its list of keys, and a tick
cannot submit a thousand runs. So many due tenants share few runs, and the keys between them that are not
due ride along: they cost a look each. As few as possible do, because the ranges are cut at the widest
gaps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise


@dataclass(frozen=True)
class KeyRange:
    """One run."""

    first: str
    last: str
    """Inclusive; equal to `first` for a run of one key."""
    due: tuple[str, ...]
    """The keys in it that are due, in the list's order; the first and the last are."""


def pack(keys: Sequence[str], due: Collection[str], max_runs: int) -> tuple[KeyRange, ...]:
    """At most `max_runs` ranges that cover every due key once, in the list's order.

    `keys` is the list of all partition keys as Dagster has it. Up to `max_runs` due keys get a run each.
    Beyond it, the ranges hold the fewest keys that are not due, and among equals share the due ones out
    evenly. Raises ValueError for a due key that is not in the list, and for `max_runs` below 1.
    """
    if max_runs < 1:
        raise ValueError("at least one run is needed")
    wanted = frozenset(due)
    positions = [position for position, key in enumerate(keys) if key in wanted]
    if len(positions) != len(wanted):
        raise ValueError("a due key is not among the partition keys")
    cuts = _cuts(positions, max_runs)
    bounds = [0, *(cut + 1 for cut in sorted(cuts)), len(positions)]
    blocks = [tuple(keys[at] for at in positions[start:end]) for start, end in pairwise(bounds)]
    return tuple(KeyRange(block[0], block[-1], block) for block in blocks if block)


def _cuts(positions: Sequence[int], max_runs: int) -> set[int]:
    """After which of the due keys to cut: at the widest gaps, and of equal ones where it halves best."""
    gaps = [after - before for before, after in pairwise(positions)]
    needed = min(max_runs - 1, len(gaps))
    if needed == 0:
        return set()
    narrowest = sorted(gaps, reverse=True)[needed - 1]
    cuts = {index for index, gap in enumerate(gaps) if gap > narrowest}
    ties = {index for index, gap in enumerate(gaps) if gap == narrowest}
    while len(cuts) < needed:
        best = _best_halving(cuts, ties, len(positions))
        cuts.add(best)
        ties.remove(best)
    return cuts


def _best_halving(cuts: set[int], ties: set[int], count: int) -> int:
    """The tie whose smaller side, within the block that it cuts, is the largest; the earliest of equals."""
    bounds = [0, *(cut + 1 for cut in sorted(cuts)), count]
    best, largest = -1, -1
    for start, end in pairwise(bounds):
        for tie in sorted(tie for tie in ties if start <= tie < end):
            smaller = min(tie + 1 - start, end - tie - 1)
            if smaller > largest:
                best, largest = tie, smaller
    return best
