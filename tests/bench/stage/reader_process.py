"""One reading of a list in a process of its own: by `land`, or by the bare floor.

The floor does what nobody can do without, and no more: fetch a page, parse it, hash each record's canonical JSON, look
the hashes up, COPY what is new into a temporary table and INSERT it from there, one transaction a page. Its table is
made like the one of landed versions, with the same indexes, and gets the same columns: the content, and the fields of
the master, picked without a look at any of them. It knows no login, no tenant's wall, no certificate, no cursor and no
fault.

The order comes as JSON on standard input, what it cost goes as JSON to standard output.
"""

from __future__ import annotations

import gc
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from hashlib import sha256
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import orjson
import psycopg
from cryptography.fernet import Fernet

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stage.cost import measured

from partners.contract import Entity
from partners.registry import PARTNERS
from resources.http import Http
from resources.logins import Logins
from resources.vault import Vault
from zest_pipelines.flows.land import land
from zest_pipelines.flows.services import Services
from zest_pipelines.store.database import Database

FULL_AGAIN = timedelta(days=2)
"""So much later than it is, the last full reading is too old to go on from."""


@dataclass(frozen=True)
class Order:
    """What to read and where to put it."""

    reader: str
    """land or floor."""
    url: str
    """The partner's base address."""
    tenant: str
    logins_file: str
    admin_url: str
    postmaster: int
    clients: int
    """How many there are."""
    new: int
    """How many of them are new or say something else."""
    quick: bool = False
    """Whether the floor spells by orjson, as landing does, and not by the standard library."""


def services_for(database: Database) -> Services:
    """As a run has them, but that it is some days later."""
    services = Services(database, Vault([Fernet.generate_key().decode()]), Http())
    return replace(services, now=lambda: Services.now() + FULL_AGAIN)


def _landed(order: Order) -> dict[str, Any]:
    database = Database(Logins.from_file(Path(order.logins_file)))
    services = services_for(database)
    reports = []

    def work() -> None:
        reports.append(land(services, PARTNERS["fhir"], order.tenant, Entity.CLIENT))

    cost = measured(work, order.postmaster)
    database.close()
    seen = (reports[0].state, reports[0].is_full, reports[0].records, reports[0].new_versions)
    assert seen == ("certified", True, order.clients, order.new), reports[0]
    return cost.told()


def _bare(order: Order) -> dict[str, Any]:
    seen: list[tuple[int, int]] = []

    def work() -> None:
        with psycopg.connect(order.admin_url) as connection, httpx.Client(trust_env=False, timeout=60) as client:
            connection.execute(_ARRIVED)
            address: str | None = f"{order.url}/Patient?_count=1000"
            while address is not None:
                bundle = client.get(address).json()
                seen.append(_stored(connection, order.tenant, bundle, _quick if order.quick else _plain))
                following = (each["url"] for each in bundle["link"] if each["relation"] == "next")
                address = next((f"{order.url}/{each}" for each in following), None)

    cost = measured(work, order.postmaster)
    assert (sum(each[0] for each in seen), sum(each[1] for each in seen)) == (order.clients, order.new), seen
    return cost.told()


def _plain(content: Any) -> str:
    return json.dumps(content, ensure_ascii=False, sort_keys=True, separators=(",", ":"))


def _quick(content: Any) -> str:
    return orjson.dumps(content, option=orjson.OPT_SORT_KEYS).decode()


_ARRIVED = """
CREATE TEMPORARY TABLE arrived (partner_id text, fingerprint bytea, partner_version text, content jsonb, master jsonb)
    ON COMMIT DELETE ROWS
"""
_KNOWN = """
SELECT wanted.partner_id, known.fingerprint FROM unnest(%s::text[]) AS wanted (partner_id)
CROSS JOIN LATERAL (
    SELECT v.fingerprint FROM floor.landed_version v
    WHERE v.tenant_id = %s AND v.partner = 'fhir' AND v.entity = 'client' AND v.partner_id = wanted.partner_id
    ORDER BY v.landed_no DESC LIMIT 1) AS known
"""
_COPY = "COPY arrived (partner_id, fingerprint, partner_version, content, master) FROM STDIN"
_INSERT = """
INSERT INTO floor.landed_version (tenant_id, partner, entity, snapshot_id, partner_id, fingerprint, partner_version,
                                  content, master)
SELECT %s, 'fhir', 'client', %s, partner_id, fingerprint, partner_version, content, master FROM arrived
"""


def _stored(
    connection: psycopg.Connection, tenant: str, bundle: Mapping[str, Any], speller: Callable[[Any], str]
) -> tuple[int, int]:
    """How many records the page had, and how many of them were new."""
    read = {}
    for entry in bundle["entry"]:
        content = entry["resource"]
        version = content.pop("meta")["versionId"]
        spelled = speller(content)
        read[content["id"]] = (sha256(spelled.encode()).digest(), version, spelled, content)
    known = dict(connection.execute(_KNOWN, [list(read), tenant]).fetchall())
    new = {key: row for key, row in read.items() if known.get(key) != row[0]}
    if new:
        with connection.cursor() as cursor, cursor.copy(_COPY) as copy:
            for key, (mark, version, spelled, content) in new.items():
                copy.write_row((key, mark, version, spelled, speller(_picked(content))))
        connection.execute(_INSERT, [tenant, uuid4()])
    connection.commit()
    return len(read), len(new)


def _picked(content: Mapping[str, Any]) -> dict[str, Any]:
    kanji, kana = content["name"]
    address = content["address"][0]
    return {
        "number": content["identifier"][0]["value"],
        "family_name": kanji["family"],
        "given_name": kanji["given"][0],
        "family_kana": kana["family"],
        "given_kana": kana["given"][0],
        "birth_date": content["birthDate"],
        "sex": content["gender"],
        "postal_code": address["postalCode"],
        "address": address["text"],
        "phone": content["telecom"][0]["value"],
        "active": content["active"],
    }


def main() -> None:
    """Carry the order out."""
    order = Order(**json.load(sys.stdin))
    gc.freeze()  # as a run's process does
    cost = _landed(order) if order.reader == "land" else _bare(order)
    print(json.dumps(cost), flush=True)


if __name__ == "__main__":
    main()
