"""Where a fault of ours happened, in words that hold no data: an exception's own text can quote a patient's."""

from __future__ import annotations

import traceback


def place_of(error: BaseException) -> str:
    """The exception's class and the innermost line of code, such as `KeyError visits.py:131`."""
    frames = traceback.extract_tb(error.__traceback__)
    where = f" {frames[-1].filename.rpartition('/')[2]}:{frames[-1].lineno}" if frames else ""
    return f"{type(error).__name__}{where}"
