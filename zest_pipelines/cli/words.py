"""How answers spell times, and what several commands say."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from partners.windows import JAPAN

Json = dict[str, Any]


def utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def local(text: str) -> str:
    """In Japan's time, for people."""
    return datetime.fromisoformat(text).astimezone(JAPAN).strftime("%Y-%m-%d %H:%M:%S JST")


def paused_words(tenant: str, partner: str) -> str:
    """When it goes on, where the next minute does nothing."""
    return f"{tenant} at {partner} is paused. What waits goes after: zest resume {tenant} {partner}"
