"""A support case in one document: a record's life, its calls masked, its connections, and what this installation is.

It holds no patient data and no secret, so it may be sent to whoever helps: ids are ours, what persons wrote is left
out, and of a connection its settings are told and its credential is not.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from datetime import datetime
from importlib.metadata import PackageNotFoundError, version
from typing import Any
from uuid import UUID

from partners.contract import MASTERS, Entity
from partners.reasons import Language
from partners.registry import PARTNERS
from zest_pipelines.board import answers
from zest_pipelines.board.answers import Json, utc
from zest_pipelines.store import hindrances, reports, tenants
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.hindrances import Hindrances
from zest_pipelines.store.tenants import ConnectionRow

_LIBRARIES = ("zest-pipelines", "dagster", "sqlalchemy", "psycopg", "httpx")
_MOST_READINGS = 10
"""Of each entity of a connection."""
_WRITTEN_BY_PERSONS = "why"


def bundle(tx: Transaction, tenant: str, record_id: UUID, now: datetime) -> Json | None:
    """All that a support case about a visit, and its visit record, needs; None: the tenant has none of that id."""
    records = []
    for entity in (Entity.VISIT, Entity.VISIT_RECORD):
        record = answers.record(tx, tenant, entity, record_id, Language.ENGLISH)
        if record is not None:
            for step in record["timeline"]:
                step.pop(_WRITTEN_BY_PERSONS)
            records.append(record | {"calls": answers.calls(tx, tenant, entity, record_id)["calls"]})
    if not records:
        return None
    concerned = {each["partner"] for record in records for each in record["partners"]}
    standing = {each.partner: each for each in hindrances.of_tenant(tx, tenant)}
    rows = [each for each in tenants.connections(tx, tenant) if each.connection.partner in concerned]
    return {
        "made_at": utc(now),
        "tenant": tenant,
        "versions": _versions(reports.server_version(tx)),
        "records": records,
        "connections": [_connection(tx, tenant, row, standing[row.connection.partner]) for row in rows],
    }


def _connection(tx: Transaction, tenant: str, row: ConnectionRow, standing: Hindrances) -> Json:
    name = row.connection.partner
    held = standing.held
    return {
        "partner": name,
        "base_url": row.connection.base_url,
        "settings": dict(row.connection.settings),
        "mapping": PARTNERS[name].mapping_version if name in PARTNERS else None,
        "timing": row.timing,
        "limits": row.limits,
        "closed": row.closed,
        "on_conflict": row.on_conflict,
        "is_paused": row.is_paused,
        "hold": None if held is None else _held(held.reason, held.params, held.since, held.until),
        "conflicts": standing.conflicts,
        "readings": {
            entity.value: [
                vars(each) | {"at": utc(each.at), "params": dict(each.params)}
                for each in reports.readings(tx, tenant, name, entity, _MOST_READINGS)
            ]
            for entity in MASTERS
        },
    }


def _held(reason: str, params: Mapping[str, Any], since: datetime, until: datetime) -> Json:
    return {"reason": reason, "params": dict(params), "since": utc(since), "until": utc(until)}


def _versions(server: str) -> Json:
    return {"python": platform.python_version(), "postgresql": server} | {name: _of(name) for name in _LIBRARIES}


def _of(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None
