"""What a person sees while a command waits."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from zest_pipelines.store.errors import StoreError

_EVERY_SECONDS = 1.0


@contextmanager
def following(what: str, look: Callable[[], tuple[int, int]]) -> Iterator[None]:
    """A bar of what `look` finds each second (how many are done, of how many), while the block works.

    On a terminal alone, on standard error.
    """
    console = Console(stderr=True)
    if not console.is_terminal:
        yield
        return
    over = threading.Event()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=None)  # how many is not known before the first look

        def show() -> None:
            with contextlib.suppress(StoreError):  # the work itself says what is wrong
                done, total = look()
                progress.update(bar, completed=done, total=total or None)

        def keep_looking() -> None:
            while not over.wait(_EVERY_SECONDS):
                show()

        looking = threading.Thread(target=keep_looking)
        looking.start()
        try:
            yield
        finally:
            over.set()
            looking.join()
            show()
