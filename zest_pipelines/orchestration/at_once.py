"""Work for several keys at once: in threads, and told by the thread that asked for it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import islice
from typing import TypeVar

Key = TypeVar("Key")
Done = TypeVar("Done")


def at_once(keys: Iterable[Key], work: Callable[[Key], Done], most: int) -> Iterator[tuple[Key, Done]]:
    """Each key with what its work came to, as it ends; of those that end together, the one first that began first.

    `keys` are taken by the caller's thread, one when another has ended, at most `most` at a time. What the work raises
    is raised once the others under way have ended; no more are begun then.
    """
    with ThreadPoolExecutor(most, thread_name_prefix="at-once") as pool:
        left = iter(keys)
        under_way = {pool.submit(work, key): key for key in islice(left, most)}
        while under_way:
            over, _ = wait(under_way, return_when=FIRST_COMPLETED)
            for done in [each for each in under_way if each in over]:
                key = under_way.pop(done)
                result = done.result()
                under_way |= {pool.submit(work, following): following for following in islice(left, 1)}
                yield key, result
