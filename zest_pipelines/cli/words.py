"""How answers spell reasons and times, for people and for programs."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from partners.reasons import Language, UnknownReason
from partners.reasons import explain as sentences
from partners.windows import JAPAN

Json = dict[str, Any]


def words(reason: str, params: Mapping[str, str], language: Language = Language.ENGLISH) -> tuple[str, str]:
    try:
        return sentences(reason, params, language)
    except UnknownReason:
        return sentences("unknown", {"detail": reason}, language)


def utc(moment: datetime | None) -> str | None:
    return None if moment is None else moment.astimezone(UTC).isoformat()


def local(text: str) -> str:
    """In Japan's time, for people."""
    return datetime.fromisoformat(text).astimezone(JAPAN).strftime("%Y-%m-%d %H:%M:%S JST")
