"""How the tables of the way out name things: a connection, and one version of one record."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any
from uuid import UUID

from sqlalchemy import RowMapping

from partners.contract import Entity


@dataclass(frozen=True)
class Target:
    """One connection's way out."""

    tenant: str
    partner: str

    def parameters(self) -> dict[str, Any]:
        """As the queries name them."""
        return {"tenant": self.tenant, "partner": self.partner}


@dataclass(frozen=True)
class Key:
    """One version of one record. `month` is that of its edit: part of every key of history."""

    month: date
    entity: Entity
    record_id: UUID
    version: int

    @property
    def record(self) -> tuple[Entity, UUID]:
        """The record, whatever version."""
        return self.entity, self.record_id


def keys_of(rows: Sequence[RowMapping]) -> tuple[Key, ...]:
    """The key in each row."""
    return tuple(map(key_of, rows))


def key_of(row: RowMapping) -> Key:
    """The key in the row."""
    return Key(row["month"], Entity(row["entity"]), row["record_id"], row["version"])
