"""What a care worker sees on a record, from best to worst.

Which badge a record has is said by the view `sync.badge` alone; this is how several of them become one.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum


class Badge(StrEnum):
    """From best to worst, in this order."""

    OK = "ok"
    DELIVERED_WITH_WARNING = "delivered_with_warning"
    WAITING = "waiting"
    """Its turn, or what it needs, has not come yet."""
    RETRYING = "retrying"
    """Something failed, and we see to it by ourselves."""
    ACTION_NEEDED = "action_needed"
    """The user has to change something; the reason says what."""
    CHECK_NEEDED = "check_needed"
    """Nobody can tell from here: look at the partner's screen, or ask."""


_ORDER = tuple(Badge)


def worst(badges: Iterable[Badge]) -> Badge:
    """The one to show for several; ok for none."""
    return max(badges, key=_ORDER.index, default=Badge.OK)
