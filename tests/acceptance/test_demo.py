"""`zest demo --once`: from nothing to four tenants equal on both sides, and again from what is there."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import pytest
from zest_process import LONG, Zest, wait_for

from zest_pipelines.local.ports import free_port

pytestmark = pytest.mark.acceptance


def test_the_demo_ends_equal_and_leaves_nothing_behind(tmp_path: Path) -> None:
    told = _shown_once(Zest(tmp_path / "data"))
    assert told["equal"] is True
    assert told["checks"]["failed"] == told["checks"]["missing"] == 0
    numbers = {tenant: (each["clients"], each["staff"], each["visits"]) for tenant, each in told["tenants"].items()}
    assert numbers == {
        "demo-a": (200, 40, 300),
        "demo-b": (200, 40, 300),
        "demo-clinic": (95, 40, 300),  # patients for tests are not read
        "demo-care": (100, 0, 300),  # no file tells of staff
    }
    for tenant, counts in told["tenants"].items():
        assert counts["differences"] == 0
        assert min(counts["booked"], counts["encounters"]) > 0
        leaves_nothing = tenant in ("demo-clinic", "demo-care")  # what is cancelled leaves nothing there
        assert (counts["cancelled"] == 0) is leaves_nothing


@LONG
def test_the_demo_goes_on_the_second_time(tmp_path: Path) -> None:
    zest = Zest(tmp_path / "data")
    first, second = (_shown_once(zest) for _ in range(2))
    assert second["tenants"] == first["tenants"]


def _shown_once(zest: Zest) -> Any:
    """The summary of a demo that ended well and left no process behind."""
    ended = zest("demo", "--once", "--port", str(free_port()), timeout=400)
    assert ended.code == 0, ended.out + ended.err
    assert wait_for(lambda: not zest.left_behind(), 15), zest.left_behind()
    return json.loads(ended.out.splitlines()[-1])


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=LONG)])
def test_a_demo_that_is_interrupted_leaves_nothing_behind(tmp_path: Path, number: signal.Signals) -> None:
    zest = Zest(tmp_path / "data")
    with zest.running("demo", "--port", str(free_port())) as demo:
        assert demo.stdout is not None
        for line in demo.stdout:
            if "Starting Dagster" in line:
                break
        demo.send_signal(number)
        assert demo.wait(timeout=60) == 130
    assert wait_for(lambda: not zest.left_behind(), 15), zest.left_behind()
