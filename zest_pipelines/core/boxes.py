"""How long one tenant's turn lasts in a run that works for many, so that no large one has the others wait for it.

Who is cut short by the end of its turn is behind all who wait by then, and is asked for again between the minutes. It
is the push's own time that is shared: what a turn takes besides (reading the edits, the calls that are under way when
it ends) is bounded by the deadlines of those.
"""

from __future__ import annotations

BOX = 45.0
"""Seconds for which all pushes of a run last together, worker by worker, if there is enough for each; and a push that
has a run of its own."""
SHORTEST = 5.0
"""Seconds of the shortest turn. In a shorter one the first call, which goes alone, would be most of it."""


def turn_seconds(tenants: int, at_once: int) -> float:
    """Seconds of each turn where so many tenants share a run that works for `at_once` of them at a time.

    From SHORTEST to BOX. Unless it is SHORTEST, all have had theirs after BOX seconds. Raises ValueError for fewer than
    one of either.
    """
    if tenants < 1 or at_once < 1:
        raise ValueError("a run has at least one tenant, and works for one at least")
    rounds = -(-tenants // at_once)
    return max(SHORTEST, BOX / rounds)
