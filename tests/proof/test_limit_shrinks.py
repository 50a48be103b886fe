"""A partner that halves its limit without a word, and restores it: we follow down at once and up again slowly.

Its refusals name no time (429 without Retry-After), so they are all that tells. The limit is one of many calls, so
that the few that must be refused before anybody can know are seen beside those that go through. The way back takes a
tenth of the limit at a time: the short form sees that it has begun, the long one (ZEST_SOAK=1) that it has ended.
"""

from __future__ import annotations

import time

from caller_process import Told, Work
from callers import calling
from counting_partner import Seen, Window, refused, running_counting, utilisation
from storm import IS_SOAK

from resources.logins import Logins

LIMIT: Window = (600, 10) if IS_SOAK else (200, 2)
PROCESSES, THREADS = 4, 4
FULL_WINDOWS, SETTLING_WINDOWS, SETTLED_WINDOWS = 2 if IS_SOAK else 1, 5, 1
RECOVERY_WINDOWS = 20 if IS_SOAK else 4


def between(log: list[Seen], start: float, end: float) -> list[Seen]:
    return [seen for seen in log if start <= seen.at < end]


def test_a_limit_that_halves_is_followed_and_used_again_when_it_is_restored(logins: Logins) -> None:
    window = LIMIT[1]
    with running_counting(per_caller=[LIMIT]) as partner:
        work = [Work(partner.url, "shrinking", "t0", [f"tenant:{LIMIT[0]}/{window}s"])] * THREADS
        with calling([Told.of(logins, work) for _ in range(PROCESSES)]):
            time.sleep(FULL_WINDOWS * window)
            halved = time.monotonic()
            partner.allow(0.5)
            time.sleep((SETTLING_WINDOWS + SETTLED_WINDOWS) * window)
            restored = time.monotonic()
            partner.allow(1.0)
            time.sleep(RECOVERY_WINDOWS * window)
            log = partner.log()
    settled = halved + SETTLING_WINDOWS * window
    settling, quiet = between(log, halved, settled), between(log, settled, restored)
    recovered = between(log, log[-1].at - 2 * window, float("inf"))
    before = utilisation(between(log, 0.0, halved), LIMIT)
    figures = (
        f"{before:.1%} used before, {refused(settling)} of {len(settling)} refused while it settled, "
        f"{utilisation(quiet, LIMIT):.1%} used then, {utilisation(recovered, LIMIT):.1%} after the return"
    )
    print(figures)
    assert refused(between(log, 0.0, halved)) == 0, figures
    assert 0 < refused(settling) < 0.02 * len(settling), figures
    assert refused(quiet) == 0, figures
    assert utilisation(recovered, LIMIT) > (0.95 * before if IS_SOAK else 1.05 * utilisation(quiet, LIMIT)), figures
