"""How answers spell times, for people and for programs."""

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
