"""The reason that a person gives for an act: kept with it, and shown to whoever asks later."""

from __future__ import annotations

from zest_pipelines.store.errors import StoreError

LONGEST = 500
"""Characters."""


def remark(text: str) -> str:
    """`text` without the spaces around it, as it is stored. StoreError if it is no line of 1 to LONGEST characters."""
    stored = text.strip()
    if not 1 <= len(stored) <= LONGEST or not stored.isprintable():
        raise StoreError(
            f"say why in one line of 1 to {LONGEST} characters, for those who find it later; nothing about a patient"
        )
    return stored
