"""Every option of the sandbox, in one frozen value.

The options are the ways in which electronic-record vendors are known to differ (who requires `If-Match`, who ignores
a parameter, who answers 404 for a deleted record), so that a connector can be tried against each of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, TypeAdapter

from partners.fhir.sandbox.dialects import Dialect
from partners.fhir.sandbox.faults import FaultRule
from partners.fhir.sandbox.limit_rules import LimitRule, SlidingRule

RESOURCE_TYPES = (
    "Patient",
    "Practitioner",
    "PractitionerRole",
    "Appointment",
    "Encounter",
    "Organization",
    "Location",
)

_PATIENT_OID = "urn:oid:1.2.392.100495.20.3.51.1"
_STAFF_OID = "urn:oid:1.2.392.100495.20.3.41.1"


@dataclass(frozen=True)
class Limit:
    """At most `calls` calls in any window of `seconds` seconds; the next one gets 429 and does not count."""

    calls: Annotated[int, Field(ge=1)]
    seconds: Annotated[float, Field(gt=0)]


@dataclass(frozen=True)
class Smart:
    """Who gets tokens (SMART App Launch 2.2, Backend Services), and what they are good for."""

    client_id: str
    keys: Mapping[str, str]
    """PEM of public keys by key id."""
    scopes: str = ""
    """The scopes that may be asked for, separated by spaces; empty: any."""
    seconds: Annotated[float, Field(gt=0)] = 300.0
    """How long a token is good."""
    clock_ahead: float = 0.0
    """Seconds by which the clock that judges assertions is ahead of this machine's."""
    refuses: bool = False
    """Refuse (401) every token, also those just given."""


@dataclass(frozen=True)
class ServerTls:
    """Serve https."""

    identity_file: Path
    """PEM of certificate and private key."""
    ca_file: Path | None = None
    """PEM of the authority from which each caller must have a certificate; None: none is asked for."""


@dataclass(frozen=True)
class SandboxConfig:
    """What one sandbox serves and how it behaves. Nothing here is read from the environment."""

    host: str = "127.0.0.1"
    """Address to listen on. Keep it a loopback one: the control endpoints have no credential."""
    port: Annotated[int, Field(ge=0, le=65535)] = 0
    """TCP port; 0 lets the system choose a free one."""

    token: str | None = field(default=None, repr=False)
    """The bearer token that callers must show; None: open to all. `/metadata` is always open."""
    tokens: tuple[str, ...] = field(default=(), repr=False)
    """More tokens that are good, for callers that share the sandbox and are counted apart."""
    smart: Smart | None = None
    """Who gets tokens at `/token`; None: nobody, and there is no such place."""
    tls: ServerTls | None = None
    """None: http."""
    read_only: bool = False
    """Answer 403 to every call but GET: a token without the write scope."""
    limit: Limit | None = None
    """The short form of a sliding limit over all callers; None: none. Whenever it is set its count starts anew."""
    limits: tuple[LimitRule, ...] = ()
    """More limits. When they change, one that differs from the one before in its place in its amounts alone goes on."""
    dialect: Dialect = Dialect.RETRY_AFTER_SECONDS
    """How it is said that calls are too many."""

    require_if_match: bool = False
    """Refuse (412) a `PUT Type/id` of an existing record that has no `If-Match`."""
    stale_status: Literal[409, 412] = 412
    """The answer to an `If-Match` that is not the current version."""
    gone_status: Literal[404, 410] = 410
    """The answer to reading a deleted record."""
    update_create: bool = True
    """Whether `PUT Type/id` of an id never seen creates it (else 404)."""
    conditional_create: bool = True
    """Whether `If-None-Exist` is honoured; False: silently ignored, as some servers do."""
    check_references: bool = True
    """Refuse (422) a write that refers to a Patient or Practitioner that is not there."""
    history: bool = True
    """Whether `_history` exists (else 404), so that a caller must find deletes by a sweep."""
    ignored_parameters: tuple[str, ...] = ()
    """Search parameters treated as unknown: ignored, and left out of the `self` link."""

    default_count: Annotated[int, Field(ge=1)] = 50
    """Rows of a page when the caller gives no `_count`."""
    max_count: Annotated[int, Field(ge=1)] = 200
    """Most rows of a page; a larger `_count` is lowered without a word, except in the `self` link."""
    page_seconds: Annotated[float, Field(gt=0)] = 300.0
    """How long a `next` link lives, in seconds; afterwards 410."""

    faults: tuple[FaultRule, ...] = ()
    """Fault rules in force from the start."""

    state_file: Path | None = None
    """Where every effect is kept (JSON lines); None: in memory only. Seeding happens only if it is new or empty."""
    journal_file: Path | None = None
    """Where the request log is kept too (JSON lines); None: in memory only."""

    seed: int = 1
    """Decides which fictional people there are."""
    clients: Annotated[int, Field(ge=0)] = 0
    """How many Patients to seed."""
    staff: Annotated[int, Field(ge=0)] = 0
    """How many Practitioners to seed, each with one PractitionerRole."""
    seeded_before: Annotated[float, Field(ge=0)] = 0.0
    """Seconds between the last change of who is seeded and the start."""
    facility: str = "1311234567"
    """Ten-digit number of the medical institution; the identifier systems are derived from it."""
    patient_identifier_system: str = ""
    """System of the patient number; empty: the facility's own under JP Core's OID."""
    staff_identifier_system: str = ""
    """System of the staff number; empty: the facility's own under JP Core's OID."""

    @property
    def named_limits(self) -> dict[str, LimitRule]:
        """`limits` by their places, "0" and on, and behind them `limit` as "limit" if it is set."""
        rules: dict[str, LimitRule] = {str(place): rule for place, rule in enumerate(self.limits)}
        if self.limit is not None:
            rules["limit"] = SlidingRule(calls=self.limit.calls, seconds=self.limit.seconds)
        return rules

    def __post_init__(self) -> None:
        if not self.patient_identifier_system:
            object.__setattr__(self, "patient_identifier_system", _PATIENT_OID + self.facility)
        if not self.staff_identifier_system:
            object.__setattr__(self, "staff_identifier_system", _STAFF_OID + self.facility)


CHANGEABLE = frozenset(
    {
        "token",
        "tokens",
        "smart",
        "read_only",
        "limit",
        "limits",
        "dialect",
        "require_if_match",
        "stale_status",
        "gone_status",
        "update_create",
        "conditional_create",
        "check_references",
        "history",
        "ignored_parameters",
        "default_count",
        "max_count",
        "page_seconds",
    }
)
"""Options that may change while the server runs."""

_CONFIG: TypeAdapter[SandboxConfig] = TypeAdapter(SandboxConfig)


def changed(config: SandboxConfig, patch: Mapping[str, Any]) -> SandboxConfig:
    """`config` with the options of `patch` (unchecked JSON) in place of its own.

    Raises ValueError (pydantic's included) for a name outside CHANGEABLE and for a value out of its bounds.
    """
    if unknown := sorted(set(patch) - CHANGEABLE):
        raise ValueError(f"not changeable while running: {', '.join(unknown)}")
    now = {option.name: getattr(config, option.name) for option in fields(config)}
    return _CONFIG.validate_python(now | dict(patch))
