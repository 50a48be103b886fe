"""How the time of a run is shared out."""

from __future__ import annotations

import pytest

from zest_pipelines.core.boxes import BOX, SHORTEST, turn_seconds


@pytest.mark.parametrize(
    ("tenants", "seconds"), [(1, BOX), (4, BOX), (5, BOX / 2), (12, BOX / 3), (36, SHORTEST), (5_000, SHORTEST)]
)
def test_a_turn_is_as_long_as_lets_all_have_theirs_in_one_box_but_never_too_short_for_a_call(
    tenants: int, seconds: float
) -> None:
    assert turn_seconds(tenants, 4) == seconds


@pytest.mark.parametrize(("tenants", "at_once"), [(0, 4), (4, 0)])
def test_a_turn_of_nobody_is_refused(tenants: int, at_once: int) -> None:
    with pytest.raises(ValueError, match="at least"):
        turn_seconds(tenants, at_once)
