"""From an update event's row image to the command that a partner gets. Pure, so that a repeat builds the same one."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from partners.contract import Command, Entity, Verb, Visit, VisitRecord


def idempotency_key(entity: Entity, record_id: UUID, version: int) -> str:
    """The same for every attempt to send this version."""
    return f"{entity}:{record_id}:{version}"


def repair_key(entity: Entity, record_id: UUID, version: int, intent_id: UUID) -> str:
    """Another one for each repair: the version's own would have the partner give its old answer again."""
    return f"{idempotency_key(entity, record_id, version)}:repair:{intent_id.hex[:8]}"


def command(
    entity: Entity,
    verb: Verb,
    record_id: UUID,
    version: int,
    *,
    key: str,
    image: Mapping[str, Any],
    links: Mapping[str, str],
    partner_id: str | None,
    partner_version: str | None,
) -> Command:
    """The command for one version. `image` is the row as the product's trigger wrote it, `links` by entity's name."""
    return Command(
        entity=entity,
        verb=verb,
        record_id=record_id,
        version=version,
        key=key,
        fields=_visit(image) if entity is Entity.VISIT else _visit_record(image),
        links={Entity(name): known for name, known in links.items()},
        partner_id=partner_id,
        partner_version=partner_version,
    )


def _visit(image: Mapping[str, Any]) -> Visit:
    return Visit(
        starts_at=datetime.fromisoformat(image["starts_at"]),
        ends_at=datetime.fromisoformat(image["ends_at"]),
        service_code=image["service_code"],
        note=image["note"],
    )


def _visit_record(image: Mapping[str, Any]) -> VisitRecord:
    return VisitRecord(
        started_at=_moment(image["started_at"]),
        ended_at=_moment(image["ended_at"]),
        status=image["status"],
        note=image["note"],
    )


def _moment(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
