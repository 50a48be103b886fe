"""The declaration of the FHIR partner: electronic records that speak HL7 FHIR R4, in Japan with JP Core's
profiles.
"""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from partners.contract import (
    TLS_SECRETS,
    Capability,
    Connection,
    Connector,
    Entity,
    Gate,
    Partner,
    Recovery,
    Setting,
)
from partners.errors import AuthenticationError, RejectedError
from partners.fhir.client import FhirConnector
from partners.fhir.codes import code_row
from partners.fhir.mapping import PATIENT_SYSTEM, STAFF_SYSTEM, map_record
from partners.fhir.server import ENDPOINTS, Server, checked_base
from partners.fhir.shape import unknown_fields
from partners.fhir.shown import SHOWN
from partners.fhir.tokens import SCOPES_V1, SCOPES_V2, Service, read_key
from partners.fhir.visits import IDENTIFIER_SYSTEMS, RESOURCE_TYPES, SERVICE_SYSTEM
from partners.wire import is_token

BATCH_SIZE = "batch_size"
SCOPES = "scopes"
TOKEN_ENDPOINT = "token_endpoint"  # noqa: S105  # where they are asked for
_V1 = "v1"
_MOST_IN_A_BATCH = 200
_SETTINGS = (
    Setting(PATIENT_SYSTEM, "identifier system of the patient number (JP Core: one for each institution)"),
    Setting(STAFF_SYSTEM, "identifier system of the staff number (JP Core: one for each institution)"),
    Setting(IDENTIFIER_SYSTEMS[Entity.VISIT], "identifier system of our visits", "urn:zest:visit"),
    Setting(
        IDENTIFIER_SYSTEMS[Entity.VISIT_RECORD],
        "the same for our visit records",
        "urn:zest:visit-record",
    ),
    Setting(SERVICE_SYSTEM, "code system of the service codes", "urn:zest:service-code"),
    Setting(BATCH_SIZE, "most visits in one call (FHIR batch), up to 200; 1: the server takes no batches", "1"),
    Setting(
        SCOPES,
        "what is asked for where the server gives tokens; v1: the same as SMART's version 1 spells it",
        SCOPES_V2,
    ),
    Setting(TOKEN_ENDPOINT, "address that gives tokens; empty: the server's smart-configuration tells it", ""),
)
_SECRETS = (
    Setting("token", "bearer token; empty if the server needs none, or gives tokens", ""),
    Setting("client_id", "as the server knows us, where it gives tokens (SMART Backend Services)", ""),
    Setting("private_key", "PEM or JWK of the key that asks for them: RSA of 2048 bits or more, or P-384", ""),
    Setting("key_id", "by which the server knows its public half, where the JWK does not say it", ""),
)


def open_connector(connection: Connection, secret: Mapping[str, str], client: httpx.Client, gate: Gate) -> Connector:
    """A connector; nothing is called yet. RejectedError if the address or a setting is missing or wrong."""
    defaults = {setting.key: setting.default for setting in _SETTINGS}
    settings = {key: connection.settings.get(key) or default for key, default in defaults.items()}
    complete = {key: value for key, value in settings.items() if value}
    for key, default in defaults.items():
        if key not in complete and default != "":
            raise RejectedError("settings_missing", {"key": key})
    service = _service(secret, complete)
    token = "" if service else secret.get("token", "").strip()
    if token and not is_token(token):
        raise AuthenticationError("credential_refused")
    server = Server(client, gate, checked_base(connection.base_url), token, service)
    return FhirConnector(server, complete, _batch_size(complete[BATCH_SIZE]))


def _service(secret: Mapping[str, str], settings: Mapping[str, str]) -> Service | None:
    """Who asks for tokens, if the server gives them. RejectedError if what is needed for that is missing or wrong."""
    client_id, private_key = secret.get("client_id", "").strip(), secret.get("private_key", "").strip()
    if not (client_id or private_key):
        return None
    if not (client_id and private_key):
        raise RejectedError("settings_missing", {"key": "private_key" if client_id else "client_id"})
    scopes = SCOPES_V1 if settings[SCOPES] == _V1 else settings[SCOPES]
    key = read_key(private_key, secret.get("key_id", "").strip())
    return Service(client_id, key, scopes, settings.get(TOKEN_ENDPOINT, "").strip())


def _batch_size(text: str) -> int:
    if not text.isdecimal() or not 1 <= int(text) <= _MOST_IN_A_BATCH:
        raise RejectedError("settings_missing", {"key": BATCH_SIZE})
    return int(text)


FHIR = Partner(
    name="fhir",
    title="HL7 FHIR R4 (JP Core)",
    reads=(Entity.CLIENT, Entity.STAFF),
    writes={entity: ENDPOINTS[kind] for entity, kind in RESOURCE_TYPES.items()},
    # Not KEY: some servers pass over If-None-Exist without a word, and a repeat would make a second visit.
    capability=Capability(Recovery.SEARCH, has_version_check=True, is_incremental=True),
    settings=_SETTINGS,
    secrets=(*_SECRETS, *TLS_SECRETS),
    limits=("tenant:600/60s", "tenant:concurrent=4"),
    mapping_version="2",
    map=map_record,
    open=open_connector,
    parallel=3,
    endpoints=tuple(dict.fromkeys(ENDPOINTS.values())),
    unknown_fields=unknown_fields,
    shown=SHOWN,
    code_row=code_row,
)
