"""How much of a limit to believe, where the partner refuses calls that it should have allowed.

A partner may keep a lower limit than it says, or lower it without a word. Its refusals are then all that tells. A
refusal at the believed limit takes us back to what held before, or halves it; quiet windows raise it again, a tenth at
a time, and the longer apart the more often that has failed. It never leaves LEAST to 1 of what was declared.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

LEAST = 1 / 16
"""Share of the declared limit that is always tried."""
_RAISE = 1.1
_MOST_PATIENT = 8
"""Quiet windows, at most, before it is tried whether more is allowed again."""


@dataclass(frozen=True)
class Belief:
    """The share of a limit that the partner is believed to allow."""

    share: float = 1.0
    """LEAST to 1, both allowed."""
    held: float = 1.0
    """The last share at which no call was refused for a window."""
    since: float = 0.0
    """When the share was last changed, seconds by the ledger's clock."""
    patience: int = 1
    """Quiet windows before the next raise."""


FULL = Belief()


def doubted(belief: Belief, now: float, window: float) -> Belief:
    """After a refusal of a call that the limit should have allowed.

    Calls that were under way when the share was lowered are refused too: within the window after that they tell nothing
    new.
    """
    has_risen = belief.share > belief.held
    if belief.share < 1 and not has_risen and now - belief.since < window:
        return belief
    share = belief.held if has_risen else max(LEAST, belief.share / 2)
    patience = min(_MOST_PATIENT, belief.patience * 2) if has_risen else 2
    return Belief(share, share, now, patience)


def relaxed(belief: Belief, now: float, window: float) -> Belief:
    """After nothing was refused until `now`: the same, or more if that has lasted."""
    if belief.share >= 1 or now - belief.since < belief.patience * window:
        return belief
    eased = max(1, belief.patience // 2) if belief.share > belief.held else belief.patience
    return replace(belief, share=min(1.0, belief.share * _RAISE), held=belief.share, since=now, patience=eased)
