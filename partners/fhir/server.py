"""A FHIR server as one connection sees it: its address, its credential, and what can be asked there.

Every call goes through the shared `wire` and so past the gate. The credential goes to the connection's own
origin and nowhere else: an address that the server hands out (`next`) is refused if it leads away.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from urllib.parse import quote, urljoin, urlsplit

import httpx

from partners.contract import Gate, Gone, Json, Token
from partners.errors import RejectedError, RetryableError
from partners.fhir import codes
from partners.fhir.tokens import ENDPOINT, Service
from partners.wire import Answered, Exchange, Request, exchange, tell_gate

ENDPOINTS: Mapping[str, str] = {
    "Patient": "patients",
    "Practitioner": "staff",
    "PractitionerRole": "staff",
    "Appointment": "appointments",
    "Encounter": "encounters",
    "metadata": "metadata",
    "token": ENDPOINT,
}
"""What the limits call the calls about a resource type."""

_PORTS = {"http": 80, "https": 443}
_FHIR_JSON = "application/fhir+json"
_ID = re.compile(r"[A-Za-z0-9\-.]{1,64}")
_ETAG = re.compile(r'(?:W/)?"([^"]+)"')


@dataclass(frozen=True)
class Ask:
    """One call to a FHIR server, alone or as an entry of a batch."""

    method: str
    path: str = field(repr=False)
    """Below the base address, with its query."""
    resource: Json | None = field(default=None, repr=False)
    """What is sent, if anything is."""
    condition: Mapping[str, str] = field(default_factory=dict, repr=False)
    """If-Match or If-None-Exist, by its small name."""


@dataclass(frozen=True)
class Server:
    """One FHIR base address, asked with one credential."""

    client: httpx.Client = field(repr=False)
    gate: Gate = field(repr=False)
    base: str = field(repr=False)
    """As `checked_base` gives it."""
    token: str = field(default="", repr=False)
    """Bearer token; empty: the server is open, or gives tokens."""
    service: Service | None = None
    """Who asks for tokens there; None: it gives none."""

    # Each of these raises PartnerError where the server gives tokens and none can be had: then nothing was applied.

    def get(self, resource_type: str, path: str, params: Mapping[str, str] | None = None) -> Exchange:
        """GET `path` below the base address, as fresh as the server has it."""
        return self._ask("GET", resource_type, f"{self.base}/{path}", params=params)

    def follow(self, resource_type: str, address: str) -> Exchange:
        """GET an address that the server handed out. RejectedError if it leads to another origin."""
        try:
            address = urljoin(f"{self.base}/", address)
        except ValueError:  # it is no address
            raise RejectedError("list_continues_elsewhere") from None
        if _origin(address) is None or _origin(address) != _origin(self.base):
            raise RejectedError("list_continues_elsewhere")
        return self._ask("GET", resource_type, address)

    def send(self, resource_type: str, ask: Ask) -> Exchange:
        """POST or PUT the resource of `ask`, asking for the result in return."""
        headers = {"content-type": _FHIR_JSON, "prefer": "return=representation", **ask.condition}
        content = json.dumps(ask.resource, ensure_ascii=False, separators=(",", ":")).encode()
        address = f"{self.base}/{ask.path}" if ask.path else self.base
        return self._ask(ask.method, resource_type, address, headers=headers, content=content)

    def read(self, resource_type: str, partner_id: str) -> Json | Gone:
        """One resource as it is now. PartnerError if the server says neither that nor that it is gone."""
        return read_in(self.get(resource_type, path_of(resource_type, partner_id)), resource_type, partner_id)

    def hear(self, resource_type: str, answers: Sequence[Exchange]) -> None:
        """Tell the gate of a refusal among the `answers` that one answer held: once, as it was one call."""
        refused = (each for each in answers if isinstance(each, Answered) and each.status >= 400)
        first = next((each for each in refused if each.status == 429 or codes.is_throttle(each)), None)
        if first is not None:
            tell_gate(self.gate, ENDPOINTS[resource_type], first, codes.is_throttle)

    def _ask(
        self,
        method: str,
        resource_type: str,
        address: str,
        *,
        params: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
        content: bytes | None = None,
    ) -> Exchange:
        # no-cache: some servers answer a search out of what it found a minute ago, and a read-back must not.
        sent = {"accept": _FHIR_JSON, "cache-control": "no-cache", **(headers or {})}
        request = Request(method, address, ENDPOINTS[resource_type], sent, params or {}, content)
        # What a server is, it tells everybody; and where there is none that is to be said, not that it gives no token.
        is_open = self.service is not None and resource_type == "metadata"
        token = "" if is_open else self._token().value
        answer = self._sent(request, token)
        is_new = self.service is None
        for _ in range(2):  # somebody else may have got another one meanwhile, and that may be revoked as well
            if is_new or not isinstance(answer, Answered) or answer.status != 401:
                break
            shown = self._token(refused=token)
            token, is_new = shown.value, shown.is_new
            answer = self._sent(request, token)
        return answer

    def _token(self, refused: str = "") -> _Shown:
        """What to call with. Raises PartnerError, or the gate's Deferred."""
        service = self.service
        if service is None:
            return _Shown(self.token, is_new=False)
        asked: list[Token] = []

        def ask() -> Token:
            asked.append(service.ask(self.client, self.gate, self.base))
            return asked[0]

        value = self.gate.token(ask, refused)
        return _Shown(value, is_new=bool(asked))

    def _sent(self, request: Request, token: str) -> Exchange:
        shown = {"authorization": f"Bearer {token}"} if token else {}
        request = replace(request, headers={**request.headers, **shown})
        return exchange(self.client, self.gate, request, throttles=codes.is_throttle)


@dataclass(frozen=True)
class _Shown:
    """A token to call with."""

    value: str = field(repr=False)
    is_new: bool
    """Whether it was given to this very call."""


def path_of(resource_type: str, partner_id: str) -> str:
    """Where a resource is, below the base address."""
    return f"{resource_type}/{quote(partner_id, safe='')}"


def read_in(answer: Exchange, resource_type: str, partner_id: str) -> Json | Gone:
    """What the answer to reading one resource tells. PartnerError as Server.read."""
    if isinstance(answer, Answered) and codes.says_gone(answer):
        return Gone()
    resource = taken(answer, resource_type)
    if resource.get("resourceType") != resource_type or resource.get("id") != partner_id:
        raise RetryableError("answer_unreadable")
    return resource


def taken(answer: Exchange, resource_type: str) -> Json:
    """The JSON object of a read that went well; else the PartnerError that says why not."""
    if isinstance(answer, Answered) and answer.status == 200:
        resource = codes.resource_in(answer)
        if resource is not None:
            return resource
    raise codes.failure(answer, resource_type)


def checked_base(address: str) -> str:
    """A connection's address without a slash at its end. RejectedError unless it is plain http or https.

    A user, a query or a fragment in it is refused: credentials belong into the vault, the rest means nothing.
    """
    base = address.strip().rstrip("/")
    if _origin(base) is None or urlsplit(base).query or urlsplit(base).fragment:
        raise RejectedError("address_wrong")
    return base


def version_of(resource: Json) -> str:
    """meta.versionId; empty if there is none that could stand in an entity tag."""
    meta = resource.get("meta")
    version = meta.get("versionId") if isinstance(meta, dict) else None
    return version if isinstance(version, str) and _ID.fullmatch(version) else ""


def id_of(resource: Json) -> str:
    """The resource's id; empty if it has none that R4 allows."""
    found = resource.get("id")
    return found if isinstance(found, str) and _ID.fullmatch(found) else ""


def identity_in_headers(answer: Answered, resource_type: str) -> tuple[str, str]:
    """(id, version) that Location and ETag tell of a write (R4, create, update); empty if they do not."""
    try:
        location = urlsplit(answer.headers.get("location", "")).path.split("/")
    except ValueError:  # it is no address
        location = []
    tag = _ETAG.fullmatch(answer.headers.get("etag", "").strip())
    version = tag[1] if tag else ""
    if "_history" in location[-2:]:
        version = version or location[-1]
        location = location[:-2]
    partner_id = location[-1] if location[-2:-1] == [resource_type] else ""
    return _valid(partner_id), _valid(version)


def _valid(text: str) -> str:
    return text if _ID.fullmatch(text) else ""


def _origin(address: str) -> tuple[str, str, int] | None:
    """(scheme, host, port) of an http address without a user; None for all else."""
    try:
        parts = urlsplit(address)
        port = parts.port or _PORTS.get(parts.scheme)
    except ValueError:
        return None
    if parts.scheme not in _PORTS or port is None or not parts.hostname or "@" in parts.netloc:
        return None
    return parts.scheme, parts.hostname, port
