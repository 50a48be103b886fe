"""What a person sees while a command waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from zest_pipelines.store.errors import StoreError

_EVERY_SECONDS = 1.0


@contextmanager
def counting(count: Callable[[], str]) -> Iterator[None]:
    """Show what `count` says, asked every second, while the block works. On a terminal alone, on standard error."""
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    over = threading.Event()

    def look() -> None:
        while not over.wait(_EVERY_SECONDS):
            with contextlib.suppress(StoreError):  # the work itself says what is wrong
                status.update(count())

    with console.status("Beginning") as status:
        looking = threading.Thread(target=look)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
