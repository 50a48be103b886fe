"""Each rule that keeps the limits is broken on purpose, and the partner that counts is seen to notice.

Two in every run; all of them, and each scene with no rule broken, with ZEST_MUTANTS=all. The clock that is read before
the wait for the lock would be made harmless by the deadline of the slot, so that rule has a test of its own.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime

import pytest
from ledger_mutants import LEDGER_MUTANTS
from ledger_scenes import SCENES, refusals

from resources.logins import Login, Logins
from zest_pipelines.store import budgets
from zest_pipelines.store.database import Database

IS_ALL = os.environ.get("ZEST_MUTANTS") == "all"
NAMES = tuple(LEDGER_MUTANTS) if IS_ALL else ("count then insert", "no margin")
HELD = 0.3


@pytest.mark.parametrize("name", NAMES)
def test_the_breach_is_noticed(name: str, logins: Logins) -> None:
    assert refusals(LEDGER_MUTANTS[name].scene, logins, name, seconds=12.0) > 0


if IS_ALL:

    @pytest.mark.parametrize("scene", SCENES)
    def test_with_all_rules_kept_the_partner_notices_nothing(scene: str, logins: Logins) -> None:
        assert refusals(scene, logins, None, seconds=6.0) == 0


def test_the_clock_is_read_when_the_lock_is_had(logins: Logins) -> None:
    first, second = Database(logins), Database(logins)
    with ThreadPoolExecutor(1) as pool:
        with first.transaction(Login.BUDGET, None) as holder:
            budgets.lock(holder, ["a"])
            waiting = pool.submit(_locked_at, second)
            time.sleep(HELD)
            released = datetime.now(UTC)  # the server is on this machine
        assert waiting.result() >= released
    first.close()
    second.close()


def _locked_at(database: Database) -> datetime:
    with database.transaction(Login.BUDGET, None) as tx:
        return budgets.lock(tx, ["a"])[1]
