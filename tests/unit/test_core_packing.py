"""Which ranges a tick asks for, in single cases; the laws are in tests/property."""

from __future__ import annotations

import pytest

from zest_pipelines.core.packing import KeyRange, pack

KEYS = [f"t{number:02}" for number in range(20)]


def test_few_due_keys_get_a_run_each() -> None:
    assert pack(KEYS, {"t07", "t03"}, 2) == (
        KeyRange("t03", "t03", ("t03",)),
        KeyRange("t07", "t07", ("t07",)),
    )


def test_many_are_cut_at_the_widest_gap() -> None:
    assert pack(KEYS, {"t01", "t03", "t10", "t12"}, 2) == (
        KeyRange("t01", "t03", ("t01", "t03")),
        KeyRange("t10", "t12", ("t10", "t12")),
    )


def test_neighbours_are_shared_out_evenly() -> None:
    assert [len(found.due) for found in pack(KEYS, KEYS, 4)] == [5, 5, 5, 5]


def test_nothing_due_needs_no_run() -> None:
    assert pack(KEYS, (), 3) == ()
    assert pack((), (), 3) == ()


def test_a_key_that_is_not_in_the_list_is_refused() -> None:
    with pytest.raises(ValueError, match="not among"):
        pack(KEYS, {"t99"}, 3)


def test_no_run_at_all_is_refused() -> None:
    with pytest.raises(ValueError, match="at least one"):
        pack(KEYS, {"t01"}, 0)
