"""Each rule that keeps the limits is broken on purpose, and the partner that counts is seen to notice.

Two in every run; all of them, and each scene with no rule broken, with ZEST_MUTANTS=all. That the clock is read after
the wait for the lock is looked at in every run as well.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from ledger_mutants import LEDGER_MUTANTS, played
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
    read, released = _locked_after(logins)
    assert read >= released
    with played("now()"):
        read, released = _locked_after(logins)
    assert read < released


def _locked_after(logins: Logins) -> tuple[float, float]:
    """What the ledger's clock said to one who waited for a lock, and when that was given back."""
    first, second = Database(logins), Database(logins)
    with ThreadPoolExecutor(1) as pool:
        with first.transaction(Login.BUDGET, None) as holder:
            budgets.lock(holder, ["a"])
            waiting = pool.submit(_locked_at, second)
            time.sleep(HELD)
            released = time.time()  # the server is on this machine
        read = waiting.result()
    first.close()
    second.close()
    return read, released


def _locked_at(database: Database) -> float:
    with database.transaction(Login.BUDGET, None) as tx:
        return budgets.lock(tx, ["a"])[1]
