"""Moments as people type them: ISO, and without an offset they are Japan's."""

from __future__ import annotations

from datetime import datetime

from partners.windows import JAPAN


class MomentError(ValueError):
    """What was given is no moment; the message says how one is written."""


def moment(text: str) -> datetime:
    """`2026-11-01T09:00`, with or without seconds and offset, aware; a day alone is its first moment. MomentError."""
    try:
        found = datetime.fromisoformat(text.strip())
    except ValueError:
        raise MomentError(f"{text!r} is no moment: write 2026-11-01T09:00, in Japan's time or with an offset") from None
    return found if found.tzinfo else found.replace(tzinfo=JAPAN)
