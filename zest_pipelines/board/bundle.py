"""A support case in one document: a record's life, its calls masked, its connections, and what this installation is.

A case is named by a record's id, or by the number that messages ask people to tell support.

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
from zest_pipelines.core.badge import Badge
from zest_pipelines.core.identifiers import landed_id
from zest_pipelines.core.reference import reference
from zest_pipelines.store import badges, hindrances, reports, tenants
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.hindrances import Hindrances
from zest_pipelines.store.reports import ReadingStatus
from zest_pipelines.store.tenants import ConnectionRow

_LIBRARIES = ("zest-pipelines", "dagster", "sqlalchemy", "psycopg", "httpx")
_MOST_READINGS = 10
"""Of each entity of a connection."""
_WRITTEN_BY_PERSONS = "why"


def bundle(tx: Transaction, tenant: str, about: UUID | str, now: datetime) -> Json | None:
    """All that a support case needs. None: the tenant has nothing of that id or number.

    `about`: the id of a visit, and of its visit record; or the number of a record, of a client or staff member that
    came, or of a whole connection. A few may share a number, and then all of them are told.
    """
    rows = tenants.connections(tx, tenant)
    partners = {each.connection.partner for each in rows}
    concerned = {each for each in partners if about == reference(tenant, each)}
    records, came = _records(tx, tenant, about), _landed(tx, tenant, about)
    if not records and not came and not concerned:
        return None
    concerned |= {each["partner"] for record in records for each in record["partners"]}
    concerned |= {each["partner"] for each in came}
    standing = {each.partner: each for each in hindrances.of_tenant(tx, tenant)}
    return {
        "made_at": utc(now),
        "tenant": tenant,
        "versions": _versions(reports.server_version(tx)),
        "records": records,
        "landed": came,
        "connections": [
            _connection(tx, tenant, row, standing[row.connection.partner])
            for row in rows
            if row.connection.partner in concerned
        ],
    }


def _records(tx: Transaction, tenant: str, about: UUID | str) -> list[Json]:
    if isinstance(about, UUID):
        named = [(entity, about) for entity in (Entity.VISIT, Entity.VISIT_RECORD)]
    else:
        every = badges.every(tx, tenant)
        fits = (
            (Entity(entity), record_id)
            for partner, entity, record_id in every
            if about == reference(tenant, partner, entity, str(record_id))
        )
        named = list(dict.fromkeys(fits))
    found = []
    for entity, record_id in named:
        record = answers.record(tx, tenant, entity, record_id, Language.ENGLISH)
        if record is not None:
            for step in record["timeline"]:
                step.pop(_WRITTEN_BY_PERSONS)
            found.append(record | {"calls": answers.calls(tx, tenant, entity, record_id)["calls"]})
    return found


def _landed(tx: Transaction, tenant: str, about: UUID | str) -> list[Json]:
    """What came of a client or staff member under that number, its reading and the calls that are kept of that."""
    found = []
    for partner, entity, landed_no in reports.landed_numbers(tx, tenant) if isinstance(about, str) else ():
        if about == reference(tenant, partner, entity.value, landed_id(landed_no)):
            told = reports.landed(tx, tenant, partner, entity, landed_no)
            found.append(
                {
                    "partner": partner,
                    "entity": entity.value,
                    "landed_no": landed_no,
                    "landed_at": utc(told.landed_at),
                    "record_id": None if told.record_id is None else str(told.record_id),
                    "outcome": told.outcome,
                    "reason": told.reason,
                    "params": dict(told.params),
                    "reading": _reading(told.reading),
                }
            )
    return found


def _reading(told: ReadingStatus) -> Json:
    return vars(told) | {"at": utc(told.at), "params": dict(told.params)}


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
        "groups": [
            {"count": each.records}
            | answers.group(tx, tenant, name, Entity(each.entity), Badge(each.badge), each.reason, Language.ENGLISH)
            for each in badges.digest(tx, tenant)
            if each.partner == name and each.badge != Badge.OK
        ],
        "readings": {
            entity.value: [_reading(each) for each in reports.readings(tx, tenant, name, entity, _MOST_READINGS)]
            for entity in (PARTNERS[name].readings if name in PARTNERS else MASTERS)
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
