"""What the product keeps of a tenant's clients and staff, judged by what the partner's sandbox has.

The sandbox's own people are read by hand here: no mapping, reading or table of the way in has a say in what is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

from conftest import Tenant

from partners.contract import Entity, Json
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.core.identity import Act
from zest_pipelines.flows import settle
from zest_pipelines.store import identities

KINDS: Mapping[Entity, str] = {Entity.CLIENT: "Patient", Entity.STAFF: "Practitioner"}
_WITHOUT_ID = """
    SELECT m.address, m.client_id FROM schedule.client m
    WHERE NOT EXISTS (SELECT FROM sync.identity i WHERE i.record_id = m.client_id AND i.valid_to IS NULL)
"""


def live_ids(sandbox: RunningSandbox, entity: Entity) -> frozenset[str]:
    """The partner's ids of the records that it has."""
    return frozenset(each["id"] for each in sandbox.state(KINDS[entity]))


def differences(tenant: Tenant) -> list[str]:
    """Where the product's masters are not what the partner has. Empty after a good reading, when nobody waits."""
    return [each for entity in tenant.partner.reads for each in _differences(tenant, entity)]


def false_deletes(tenant: Tenant) -> list[str]:
    """Records that once landed as gone though the partner has them. Its people must not use a deleted id again."""
    wrong = []
    for entity in tenant.partner.reads:
        statement = "SELECT partner_id FROM sync.landed_version WHERE entity = :entity AND fingerprint IS NULL"
        gone = {row.partner_id for row in tenant.sql(statement, Login.OPERATOR, entity=entity.value)}
        wrong += [f"{each} is gone, and the partner has it" for each in sorted(gone & live_ids(tenant.sandbox, entity))]
    return wrong


@dataclass
class Faces:
    """Who each of our clients is, by the address: in these proofs nobody moves, and no two live at one."""

    known: dict[UUID, str] = field(default_factory=dict)

    def written_over(self, tenant: Tenant) -> list[str]:
        """Clients that have become somebody else since they were first seen here, however the way in came to it."""
        now = {row.client_id: row.address for row in tenant.sql("SELECT client_id, address FROM schedule.client")}
        return [f"{each} is somebody else" for each in now if self.known.setdefault(each, now[each]) != now[each]]


def say_who_waits(tenant: Tenant) -> None:
    """A person who knows everybody by the address says of each client that waits who it is."""
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        waiting = identities.waiting(tx, tenant.name, tenant.partner.name)
    theirs = {each["id"]: each for each in tenant.sandbox.state("Patient")}
    ours = {row.address: row.client_id for row in tenant.sql(_WITHOUT_ID, Login.OPERATOR)}
    for each in waiting:
        statement = "SELECT partner_id FROM sync.landed_version WHERE landed_no = :number"
        ((partner_id,),) = tenant.sql(statement, Login.OPERATOR, number=each.landed_no)
        record = ours.get(_client(theirs[partner_id])["address"])
        act = Act.NEW if record is None else Act.LINK
        settle.identity(tenant.services, tenant.partner, tenant.name, each.landed_no, act, record)


def _differences(tenant: Tenant, entity: Entity) -> list[str]:
    theirs, ours = _theirs(tenant.sandbox, entity), _ours(tenant, entity)
    wrong = [f"{each} is missing" for each in sorted(theirs.keys() - ours.keys())]
    wrong += [f"{each} is still in force" for each in sorted(ours.keys() - theirs.keys()) if ours[each]["active"]]
    for each in sorted(theirs.keys() & ours.keys()):
        names = [name for name, value in theirs[each].items() if value != ours[each][name]]
        wrong += [f"{each} differs in {', '.join(names)}"] if names else []
    in_force = tenant.sql(f"SELECT count(*) FROM schedule.{entity} WHERE active")[0][0]
    known = sum(each["active"] for each in ours.values())
    return wrong + ([] if in_force == known else [f"{in_force - known} in force are nobody's"])


def _theirs(sandbox: RunningSandbox, entity: Entity) -> dict[str, Json]:
    read = _READ[entity]
    roles = {each["practitioner"]["reference"]: each for each in sandbox.state("PractitionerRole")}
    return {each["id"]: read(each, roles.get(f"Practitioner/{each['id']}")) for each in sandbox.state(KINDS[entity])}


def _client(patient: Json, _: Json | None = None) -> Json:
    (address,), phone = patient["address"], patient.get("telecom", [{"value": ""}])[0]["value"]
    others = {"birth_date": patient["birthDate"], "sex": patient["gender"], "phone": phone, "active": patient["active"]}
    return _person(patient) | others | {"postal_code": address["postalCode"], "address": address["text"]}


def _staff(practitioner: Json, role: Json | None) -> Json:
    if role is None:  # as a list whose rows shift makes them
        nothing = {"employed_from": None, "employed_until": None, "qualification": ""}
        return _person(practitioner) | nothing | {"active": practitioner["active"]}
    employed = {"employed_from": role["period"]["start"], "employed_until": role["period"].get("end")}
    return _person(practitioner) | employed | {"qualification": role["code"][0]["text"], "active": role["active"]}


def _person(theirs: Json) -> Json:
    written = {each["extension"][0]["valueCode"]: each for each in theirs["name"]}
    kanji, kana = (written.get(script, {"family": "", "given": [""]}) for script in ("IDE", "SYL"))
    return {
        "number": theirs["identifier"][0]["value"],
        "family_name": kanji["family"],
        "given_name": kanji["given"][0],
        "family_kana": kana["family"],
        "given_kana": kana["given"][0],
    }


_READ: Mapping[Entity, Callable[[Json, Json | None], Json]] = {Entity.CLIENT: _client, Entity.STAFF: _staff}


def _ours(tenant: Tenant, entity: Entity) -> dict[str, Any]:
    """The product's row and the number that is kept beside it, by the id that means it now."""
    statement = f"""
        SELECT i.partner_id, i.number, to_jsonb(m) AS master FROM sync.identity i
        JOIN schedule.{entity} m ON m.tenant_id = i.tenant_id AND m.{entity}_id = i.record_id
        WHERE i.partner = :partner AND i.entity = :entity AND i.valid_to IS NULL
    """
    rows = tenant.sql(statement, Login.OPERATOR, partner=tenant.partner.name, entity=entity.value)
    return {row.partner_id: row.master | {"number": row.number} for row in rows}
