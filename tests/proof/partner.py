"""The partner for proofs as the platform sees it: a connector, and a declaration for each class of capability.

`connect` makes a tenant with a plan at such a partner, `truth` judges from the partner's log what became of it.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import repeat
from types import MappingProxyType
from typing import Any, Protocol
from uuid import UUID, uuid4

import httpx
import sqlalchemy as sa
from cryptography.fernet import Fernet

from partners.contract import (
    Absent,
    Access,
    Capability,
    CheckReport,
    Command,
    Conflict,
    Connection,
    Connector,
    Delivered,
    Entity,
    Found,
    Gate,
    Gone,
    Page,
    Partner,
    ReadBack,
    Recovery,
    Refused,
    Reply,
    Retry,
    Setting,
    SourceRecord,
    Unknown,
    Verb,
)
from partners.errors import AuthenticationError, RejectedError, RetryableError
from partners.throttling import retry_after
from partners.wire import Answered, Cause, Exchange, NotSent, Request, exchange, read_json
from resources.http import Http
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.flows.services import Services
from zest_pipelines.store import identities, masters, tenants
from zest_pipelines.store.database import Database
from zest_pipelines.store.masters import Scope

KINDS: Mapping[Entity, str] = {Entity.VISIT: "visits", Entity.VISIT_RECORD: "records"}
_NOT_HERE = {"error": "it is not here"}
"""The partner's own word: a 404 alone may be a proxy's."""
_LINKS: Mapping[Entity, tuple[Entity, ...]] = {
    Entity.VISIT: (Entity.CLIENT, Entity.STAFF),
    Entity.VISIT_RECORD: (Entity.CLIENT, Entity.STAFF, Entity.VISIT),
}

# --- The connector ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class ProofConnector:
    """A contract.Connector for one connection."""

    client: httpx.Client = field(repr=False)
    gate: Gate
    base: str
    capability: Capability
    batch_size: int

    def check(self) -> CheckReport:
        """Nothing can be asked without a record."""
        return CheckReport("proof", tuple(Access(entity, None, None) for entity in KINDS))

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """It has no masters."""
        raise ValueError(f"not read here: {entity}")

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """It has no masters."""
        raise ValueError(f"not read here: {entity}")

    def send(self, command: Command) -> Reply:
        """As the contract says."""
        asked = self._written(command)
        if asked is None:
            return Conflict("record_gone_at_partner")
        body = json.dumps(asked["body"]).encode()
        return _reply(command, self._ask(asked["method"], asked["path"], KINDS[command.entity], asked["headers"], body))

    def send_batch(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """As the contract says."""
        kind = KINDS[commands[0].entity]
        asked = [self._written(command) for command in commands]
        entries = [entry for entry in asked if entry is not None]
        answer = self._ask("POST", "batch", kind, {}, json.dumps({"entries": entries}).encode())
        if isinstance(answer, Answered) and answer.status == 422:
            return [Refused("batch_refused")] * len(commands)
        answers = _entries(answer, len(entries))
        return [
            Conflict("record_gone_at_partner") if entry is None else _reply(command, next(answers))
            for command, entry in zip(commands, asked, strict=True)
        ]

    def find(self, command: Command) -> ReadBack:
        """As the contract says. RejectedError where the partner cannot be asked."""
        kind = KINDS[command.entity]
        match self.capability.recovery:
            case Recovery.CLIENT_ID:
                answer = self._ask("GET", f"{kind}/{command.record_id}", kind)
                if isinstance(answer, Answered) and answer.status == 404 and read_json(answer) == _NOT_HERE:
                    return Absent()
                return _found(_taken(answer, "id", "version", "cancelled"), command)
            case Recovery.SEARCH:
                answer = self._ask("GET", f"{kind}?record_id={command.record_id}", kind)
                copies = _taken(answer, "found")["found"]
                if len(copies) > 1:
                    raise RejectedError("several_at_partner")
                return _found(copies[0], command) if copies else Absent()
        raise RejectedError("cannot_be_read_back")

    def close(self) -> None:
        """Close the HTTP client."""
        self.client.close()

    def _written(self, command: Command) -> dict[str, Any] | None:
        """The write as method, path, headers and body; None: there is nothing that could be changed."""
        kind = KINDS[command.entity]
        headers = {"idempotency-key": command.key} if self.capability.recovery is Recovery.KEY else {}
        if self.capability.has_version_check and command.partner_version is not None:
            headers["if-match"] = f'"{command.partner_version}"'
        is_cancelled = command.verb is Verb.CANCEL
        body = {"record_id": str(command.record_id), "version": command.version, "cancelled": is_cancelled}
        asked = {"headers": headers, "body": body | {"content": _content(command)}}
        if self.capability.recovery is Recovery.CLIENT_ID:
            return asked | {"method": "PUT", "path": f"{kind}/{command.record_id}"}
        if command.verb is Verb.CREATE:
            return asked | {"method": "POST", "path": kind}
        if command.partner_id is None:
            return None
        return asked | {"method": "PUT", "path": f"{kind}/{command.partner_id}"}

    def _ask(
        self, method: str, path: str, endpoint: str, headers: Mapping[str, str] | None = None, body: bytes | None = None
    ) -> Exchange:
        return exchange(
            self.client, self.gate, Request(method, f"{self.base}/{path}", endpoint, headers or {}, content=body)
        )


def _reply(command: Command, answer: Exchange) -> Reply:
    if isinstance(answer, NotSent):
        return Retry("partner_unreachable")
    if not isinstance(answer, Answered):
        unsure = {Cause.TIMEOUT: "timeout_unsure", Cause.CUT: "connection_cut_unsure"}
        return Unknown(unsure.get(answer.cause, "answer_unreadable"))
    match answer.status:
        case 200 | 201:
            told = read_json(answer)
            if isinstance(told, dict) and {"id", "version"} <= told.keys():
                return Delivered(told["id"], told["version"])
        case 404 if command.verb is Verb.CANCEL and command.partner_id is not None:
            return Delivered(command.partner_id, "", "nothing_to_cancel")
        case 404:
            return Conflict("record_gone_at_partner")
        case 401:
            return Refused("credential_refused")
        case 409 | 412:
            return Conflict("changed_at_partner")
        case 422:
            return Refused("content_refused", {"detail": "HTTP 422"})
        case 429:
            return Retry("partner_busy", not_before=_named_time(answer))
        case status if status >= 500:
            return Unknown("partner_failed_unsure")
    return Unknown("answer_unreadable")


def _entries(answer: Exchange, asked: int) -> Iterator[Exchange]:
    """The answer to each entry of a batch; the whole answer for each, if it does not tell them apart."""
    told = read_json(answer) if isinstance(answer, Answered) and answer.status == 200 else None
    if not isinstance(answer, Answered) or not isinstance(told, dict):
        yield from repeat(answer, asked)
        return
    for entry in told["entries"]:
        body = json.dumps(entry["body"]).encode()
        yield Answered(entry["status"], answer.headers, body, answer.received_at)


def _taken(answer: Exchange, *names: str) -> dict[str, Any]:
    """The object of a reading that went well, with these names; else the PartnerError that says why not."""
    if isinstance(answer, Answered) and answer.status == 200:
        told = read_json(answer)
        if isinstance(told, dict) and told.keys() >= set(names):
            return told
    if isinstance(answer, Answered) and answer.status == 401:
        raise AuthenticationError("credential_refused")
    if isinstance(answer, Answered) and answer.status == 422:
        raise RejectedError("content_refused", {"detail": "HTTP 422"})
    if isinstance(answer, Answered):
        later = _named_time(answer)
        reasons = {429: "partner_busy", 503: "partner_maintenance"}
        raise RetryableError(reasons.get(answer.status, "answer_unreadable"), not_before=later)
    raise RetryableError("partner_unreachable")


def _named_time(answer: Answered) -> datetime | None:
    rest = retry_after(answer.headers, answer.received_at)
    return None if rest is None else answer.received_at + rest


def _found(copy: dict[str, Any], command: Command) -> Found:
    # `cancelled` is the copy's own word; people know it as the status, which a record of a visit has besides.
    is_cancelled = command.verb is Verb.CANCEL
    wanted = {} if is_cancelled else _content(command)
    differing = [name for name, value in wanted.items() if copy[name] != value]
    if copy["cancelled"] != is_cancelled:
        differing = [*(name for name in differing if name != "status"), "status"]
    shown = copy | ({"status": "cancelled"} if copy["cancelled"] else {})
    theirs = {name: shown[name] for name in differing if shown.get(name) is not None}
    return Found(copy["id"], copy["version"], tuple(differing), theirs)


def _content(command: Command) -> dict[str, str | None]:
    """What the partner is told of a record, by the names of the contract."""
    said = {name: _text(value) for name, value in vars(command.fields).items()}
    return said | {entity.value: command.links.get(entity) for entity in _LINKS[command.entity]}


def _text(value: Any) -> str | None:
    """Moments by the same clock, so that equal ones are equal."""
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


# --- The declarations -------------------------------------------------------------------------------------------------


def _declare(name: str, recovery: Recovery, *, has_version_check: bool = False) -> Partner:
    capability = Capability(recovery, has_version_check=has_version_check, is_incremental=False)

    def opened(connection: Connection, secret: Mapping[str, str], client: httpx.Client, gate: Gate) -> Connector:
        size = int(connection.settings.get("batch_size") or "1")
        return ProofConnector(client, gate, connection.base_url, capability, size)

    def refuse(*_: object) -> Any:
        raise AssertionError("it has no masters")

    return Partner(
        name=f"proof_{name}",
        title=f"Proof ({name})",
        reads=(),
        writes=KINDS,
        capability=capability,
        settings=(Setting("batch_size", "most records in one call", "1"),),
        secrets=(),
        limits=(),
        mapping_version="1",
        map=refuse,
        open=opened,
        parallel=8,
    )


PROOFS: Mapping[str, Partner] = MappingProxyType(
    {
        partner.name: partner
        for partner in (
            _declare("key", Recovery.KEY),
            _declare("client_id", Recovery.CLIENT_ID),
            _declare("search", Recovery.SEARCH),
            _declare("version", Recovery.SEARCH, has_version_check=True),
            _declare("none", Recovery.NONE),
        )
    }
)
"""One for each class of capability: proof_key, proof_client_id, proof_search, proof_version, proof_none."""


# --- A tenant and its plan --------------------------------------------------------------------------------------------

VAULT_KEY = Fernet.generate_key().decode()
_TABLES = {Entity.VISIT: "visit", Entity.VISIT_RECORD: "visit_record"}


@dataclass(frozen=True)
class Office:
    """A tenant at a partner for proofs, and the product's hand there."""

    name: str
    services: Services
    partner: Partner
    client: UUID
    staff: UUID
    """Two members of staff are known to the partner; this is the first."""
    other_staff: UUID

    @property
    def space(self) -> tuple[str, str]:
        """(class, space) of its records at the partner."""
        return self.partner.name.removeprefix("proof_"), self.name

    def sql(self, statement: str, login: Login = Login.PRODUCT, **parameters: Any) -> Sequence[Any]:
        """Run one statement in a transaction of its own and return its rows, if it has any."""
        with self.services.database.transaction(login, self.name) as tx:
            result = tx.execute(sa.text(statement), parameters)
            return result.all() if result.returns_rows else []

    def add_visits(self, number: int = 1, **columns: Any) -> list[UUID]:
        """Confirmed visits on 2026-12-01, in one transaction, with other values for the `columns` given."""
        visits = [uuid4() for _ in range(number)]
        values = {
            "client_id": self.client,
            "staff_id": self.staff,
            "starts_at": "2026-12-01T09:00:00+09:00",
            "ends_at": "2026-12-01T10:00:00+09:00",
            "service_code": "131111",
            "note": "1",
            "status": "confirmed",
        } | columns
        self.sql(
            f"INSERT INTO schedule.visit (tenant_id, visit_id, {', '.join(values)}) "
            f"SELECT :tenant, id, :{', :'.join(values)} FROM unnest(CAST(:ids AS uuid[])) AS id",
            tenant=self.name,
            ids=visits,
            **values,
        )
        return visits

    def add_records(self, visits: Sequence[UUID], **columns: Any) -> None:
        """A record of each visit: done from nine to ten, unless said otherwise."""
        values = {
            "started_at": "2026-12-01T09:00:00+09:00",
            "ended_at": "2026-12-01T10:00:00+09:00",
            "status": "done",
            "note": "1",
        } | columns
        self.sql(
            f"INSERT INTO schedule.visit_record (tenant_id, visit_id, {', '.join(values)}) "
            f"SELECT :tenant, id, :{', :'.join(values)} FROM unnest(CAST(:ids AS uuid[])) AS id",
            tenant=self.name,
            ids=list(visits),
            **values,
        )

    def edit(self, *records: UUID, entity: Entity = Entity.VISIT, **columns: Any) -> None:
        """Change columns of visits, or of visit records."""
        sets = ", ".join(f"{name} = :{name}" for name in columns)
        table = _TABLES[entity]
        self.sql(f"UPDATE schedule.{table} SET {sets} WHERE visit_id = ANY (:ids)", ids=list(records), **columns)

    def cancel(self, *visits: UUID) -> None:
        """Cancel visits."""
        self.edit(*visits, status="cancelled")

    def delete(self, *visits: UUID) -> None:
        """Delete visits that have no record."""
        self.sql("DELETE FROM schedule.visit WHERE visit_id = ANY (:ids)", ids=list(visits))


def connect(
    database: Database,
    tenant: str,
    partner: Partner,
    url: str,
    *,
    timing: str = "minute",
    limits: Sequence[str] | None = None,
    settings: Mapping[str, str] | None = None,
    call_seconds: float = 3.0,
) -> Office:
    """A tenant at the running partner `url`, with a client and two members of staff whom the partner knows.

    Its services have a deadline of `call_seconds`, no backoff, and no patience with calls that may be under way.
    """
    class_name = partner.name.removeprefix("proof_")
    connection = Connection(tenant, partner.name, f"{url}/{class_name}/{tenant}", settings or {})
    with database.transaction(Login.OPERATOR, tenant) as tx:
        tenants.add(tx, tenant, f"Tenant {tenant}")
        tenants.connect(tx, connection, timing=timing, limits=limits, land_every=timedelta(hours=1), ciphertext=None)
    client, staff, other_staff = uuid4(), uuid4(), uuid4()
    with database.transaction(Login.APPLY, tenant) as tx:
        _identify(tx, Scope(tenant, partner.name, Entity.CLIENT), client, "c1")
        _identify(tx, Scope(tenant, partner.name, Entity.STAFF), staff, "s1")
        _identify(tx, Scope(tenant, partner.name, Entity.STAFF), other_staff, "s2")
    http = Http(total_seconds=call_seconds, connect_seconds=min(1.0, call_seconds))
    services = Services(database, Vault([VAULT_KEY]), http, random=lambda: 0.0, under_way=timedelta(0))
    return Office(tenant, services, partner, client, staff, other_staff)


def _identify(tx: Any, scope: Scope, record_id: UUID, partner_id: str) -> None:
    person = {
        "family_name": "試験",
        "given_name": partner_id,
        "family_kana": "シケン",
        "given_kana": "",
        "active": True,
    }
    of_client = {"birth_date": "1940", "sex": "other", "postal_code": "", "address": "", "phone": ""}
    of_staff = {"qualification": "", "employed_from": None, "employed_until": None}
    identities.identify(tx, scope, partner_id, record_id, partner_id)
    masters.put_master(tx, scope, record_id, person | (of_client if scope.entity is Entity.CLIENT else of_staff))


# --- The judge --------------------------------------------------------------------------------------------------------


class Witness(Protocol):
    """The partner that a truth is judged by: partner_process.RunningPartner."""

    def log(self) -> list[dict[str, Any]]:
        """The log."""

    def state(self) -> list[dict[str, Any]]:
        """The copies."""


@dataclass(frozen=True)
class Truth:
    """What the partner's log and copies say of a tenant's records, beside its plan. Records as `visit <id>`."""

    lost: tuple[str, ...] = ()
    """The partner should have it and has no copy."""
    doubled: tuple[str, ...] = ()
    """It was made more than once."""
    out_of_order: tuple[str, ...] = ()
    """An older version came to stand over a newer one, and nothing set that right."""
    stale: tuple[str, ...] = ()
    """The partner's copy is not as the newest confirmed version or the cancellation says."""
    asked: tuple[str, ...] = ()
    """It would be lost, doubled, out of order or stale, but a person is asked what became of it."""
    repaired: tuple[str, ...] = ()
    """An older version came to stand over a newer one, and the newest was put back."""

    @property
    def broken(self) -> list[str]:
        """What no partner's limits excuse, in words; empty: all is as promised."""
        found = {"lost": self.lost, "doubled": self.doubled, "out of order": self.out_of_order, "stale": self.stale}
        return [f"{record} is {what}" for what, records in found.items() for record in records]


_PLANS = {
    Entity.VISIT: """
        SELECT visit_id, client_id, staff_id, starts_at, ends_at, service_code, note, status = 'confirmed' AS is_wanted,
               true AS is_free
        FROM schedule.visit
    """,
    Entity.VISIT_RECORD: """
        SELECT r.visit_id, r.client_id, r.staff_id, r.started_at, r.ended_at, r.status, r.note,
               r.status IN ('done', 'absent') AS is_wanted, v.status = 'confirmed' AS is_free
        FROM schedule.visit_record r JOIN schedule.visit v ON v.visit_id = r.visit_id
    """,
}
_ASKED = """
    SELECT entity, record_id FROM sync.badge
    WHERE partner = :partner AND badge IN ('action_needed', 'check_needed')
      AND reason IN ('delivery_unsure', 'late_answer_unsure')
"""
_IDENTITIES = "SELECT record_id, partner_id FROM sync.identity WHERE partner = :partner AND valid_to IS NULL"


def truth(office: Office, partner: Witness, but: Collection[UUID] = ()) -> Truth:
    """Judge all records of the office, without those in `but` (held in conflict or parked on purpose).

    What waits for a person or a visit that the partner does not know is not judged. Where the partner can be asked
    nothing (key, none), a record for which a person is asked is told apart. Where it checks versions, an older version
    over a newer one is not excused by a repair.
    """
    log = [row for row in partner.log() if (row["recovery"], row["space"]) == office.space]
    copies = [row for row in partner.state() if (row["recovery"], row["space"]) == office.space]
    asked, left_out = _asked(office), {str(record) for record in but}
    found: dict[str, list[str]] = {}
    for entity in KINDS:
        effects = _by_record(row for row in log if row["effect"] != "none" and row["kind"] == KINDS[entity])
        held = _by_record(copy for copy in copies if copy["kind"] == KINDS[entity])
        plans = _plans(office, entity, copies)
        for record_id in (plans.keys() | held.keys()) - left_out:
            marks = _order(effects.get(record_id, []), office.partner.capability.has_version_check)
            marks |= _standing(held.get(record_id, []), plans.get(record_id))
            if (entity, record_id) in asked:
                marks = marks & {"doubled"} or {"asked"}
            for mark in marks:
                found.setdefault(mark, []).append(f"{entity} {record_id}")
    return Truth(**{mark: tuple(sorted(records)) for mark, records in found.items()})


def _by_record(rows: Iterable[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    found: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        found.setdefault(row["record_id"], []).append(row)
    return found


def _order(effects: Sequence[Mapping[str, Any]], is_strict: bool) -> set[str]:
    """What the order of a record's effects says."""
    marks = {"doubled"} if sum(row["effect"] == "created" for row in effects) > 1 else set()
    newest, is_behind = 0, False
    for row in effects:
        if row["effect"] == "edited":
            continue
        if row["version"] < newest:
            is_behind = True
            marks.add("out_of_order" if is_strict else "repaired")
        else:
            newest, is_behind = row["version"], False
    return marks - {"repaired"} | {"out_of_order"} if is_behind else marks


def _standing(copies: Sequence[Mapping[str, Any]], wanted: _Plan | None) -> set[str]:
    """What the copies that a record has at the end say. `wanted` None: it should not stand there."""
    live = [copy["content"] for copy in copies if not copy["is_cancelled"]]
    if wanted is None:
        return {"stale"} if live else set()
    if wanted.waits:
        return set()
    if not copies:
        return {"lost"}
    return {"stale"} if live != [wanted.content] else set()


@dataclass(frozen=True)
class _Plan:
    """A record that the partner should have."""

    content: Mapping[str, str | None]
    """As `_content` writes it."""
    waits: bool
    """For a person or a visit that the partner does not know."""


def _plans(office: Office, entity: Entity, copies: Sequence[Mapping[str, Any]]) -> dict[str, _Plan]:
    rows = office.sql(_IDENTITIES, Login.OPERATOR, partner=office.partner.name)
    people: dict[UUID | None, str] = {row.record_id: row.partner_id for row in rows}
    visits = {copy["record_id"]: copy["partner_id"] for copy in copies if copy["kind"] == KINDS[Entity.VISIT]}
    plans = {}
    for row in office.sql(_PLANS[entity]):
        columns = row._asdict()
        record_id, client, staff = (columns.pop(name) for name in ("visit_id", "client_id", "staff_id"))
        is_wanted, is_free = columns.pop("is_wanted"), columns.pop("is_free")
        if is_wanted:
            content = {name: _text(value) for name, value in columns.items()}
            content |= {"client": people.get(client), "staff": people.get(staff)}
            if entity is Entity.VISIT_RECORD:
                content["visit"] = visits.get(str(record_id))
            is_known = client in people and (staff is None or staff in people)
            plans[str(record_id)] = _Plan(content, waits=not (is_free and is_known))
    return plans


def _asked(office: Office) -> set[tuple[str, str]]:
    if office.partner.capability.recovery not in (Recovery.KEY, Recovery.NONE):
        return set()
    rows = office.sql(_ASKED, partner=office.partner.name)
    return {(row.entity, str(row.record_id)) for row in rows}
