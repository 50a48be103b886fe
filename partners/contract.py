"""The contract between the platform and a partner: all that a connector's author must know.

A partner is a folder with a declaration (`Partner`), a connector for its wire (`Connector`) and a pure mapping. The
platform hands in the connection, the secret, an HTTP client and a gate; it gets pages, records and replies back, and
never learns how the partner spells them. A connector keeps no state between calls, decides no retries and logs nothing.

Two promises carry the rest:

- A reading raises a `PartnerError`; a write returns a `Reply`. Only what was surely not applied is a `Retry` or
  `Refused`; every doubt is `Unknown`, and the platform reads back before it sends again.
- Before each call to the partner, without exception, the connector asks the gate, and after it tells the gate what the
  answer says of the limits (the shared `wire` does both).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

from partners.errors import PartnerError, RetryableError
from partners.windows import closed_at, parse_window

if TYPE_CHECKING:
    import httpx

    from partners.reasons import Reason
    from partners.throttling import Told

Json = dict[str, Any]


class Entity(StrEnum):
    """The kinds of record that travel. Masters come in, visits and records go out; plans come in to be compared."""

    CLIENT = "client"
    STAFF = "staff"
    VISIT = "visit"
    VISIT_RECORD = "visit_record"
    PLAN = "plan"


MASTERS = (Entity.CLIENT, Entity.STAFF)


# --- The way in -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Client:
    """A care client as the product keeps it. An empty string: the partner does not say."""

    number: str
    """The partner's own number for the person, as people there use it (患者番号)."""
    family_name: str
    given_name: str
    family_kana: str
    given_kana: str
    birth_date: str
    """`YYYY-MM-DD`, or as much of it as is known: `YYYY-MM`, `YYYY`."""
    sex: str
    """male, female, other or unknown."""
    postal_code: str
    address: str
    phone: str
    active: bool


@dataclass(frozen=True)
class Staff:
    """A member of staff as the product keeps it. An empty string: the partner does not say."""

    number: str
    family_name: str
    given_name: str
    family_kana: str
    given_kana: str
    qualification: str
    employed_from: date | None
    employed_until: date | None
    """Last day of employment, inclusive; None: open."""
    active: bool


Master = Client | Staff


@dataclass(frozen=True)
class Unmappable:
    """A record that cannot become a master: it is quarantined, its neighbours go on."""

    reason: str
    params: Mapping[str, str] = field(default_factory=dict)
    """Names of fields and codes, never a person's data."""


@dataclass(frozen=True)
class SourceRecord:
    """One record as the partner shows it."""

    partner_id: str
    """The partner's identity of it, stable over its life, compared as it is."""
    partner_version: str
    """The partner's mark of this state (ETag, version, time); empty if it has none. Not part of the content."""
    content: Json
    """What the partner says of it, without what changes by itself (version, time of change)."""


@dataclass(frozen=True)
class Page:
    """One page of a reading."""

    records: tuple[SourceRecord, ...]
    is_full: bool
    """Whether the reading is of all records, so that a missing one is suspect; False: only of changed ones."""
    total: int | None = None
    """How many records the partner says the whole reading has; None: it does not say."""
    is_last: bool = False
    gone: tuple[str, ...] = ()
    """Ids that the partner itself says were deleted: its delete events."""
    nameless: int = 0
    """How much is listed on it that has no usable id; the rest lands, and nobody is suspect of having gone."""
    cursor: str | None = None
    """Hand this to the next reading to get what changed since; opaque. The last page's counts; None: there is none."""
    resume: str | None = None
    """Hand this to `read` to have the pages after this one, should the reading break off here; opaque, and asked for
    within the hour. None: it cannot be taken up after this page."""


@dataclass(frozen=True)
class Gone:
    """The partner says that the record is not there."""


@dataclass(frozen=True)
class PlannedService:
    """One service of one day, as somebody else has planned it."""

    day: date
    service_code: str
    starts: str
    """`HH:MM` in Japan; empty: the plan has no time."""
    ends: str
    """As `starts`; on the next day if it is not later."""
    count: int = 1
    """How often, 0 to 99."""


@dataclass(frozen=True)
class Plan:
    """All that somebody else has planned for one client in one month: compared with ours, and never applied."""

    client: str
    """The partner's id of the client, as readings of clients have it."""
    month: date
    """Its first day."""
    said_at: str
    """When the partner said it, as text of which the later is the greater. A later one takes the whole place of those
    before, whichever is read first."""
    services: tuple[PlannedService, ...] | None
    """Those that we are to give. None: the plan was taken back."""
    bad: tuple[Unmappable, ...] = ()
    """Lines of it that cannot be taken: each waits alone."""


@dataclass(frozen=True)
class PlanPage:
    """Some plans of a reading."""

    plans: tuple[Plan, ...]
    cursor: str | None = None
    """As that of a `Page`."""


# --- The way out ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Visit:
    """A planned visit."""

    starts_at: datetime
    ends_at: datetime
    service_code: str
    note: str


@dataclass(frozen=True)
class VisitRecord:
    """What became of a visit."""

    started_at: datetime | None
    ended_at: datetime | None
    status: str
    """done or absent (the client was not there)."""
    note: str


class Verb(StrEnum):
    """What the partner is asked to do."""

    CREATE = "create"
    UPDATE = "update"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Command:
    """One record's version on its way to the partner. Built from committed data alone, so a repeat is the same."""

    entity: Entity
    verb: Verb
    record_id: UUID
    version: int
    key: str
    """Idempotency key: the same for every repeat of this version, another one for a repair."""
    fields: Visit | VisitRecord
    links: Mapping[Entity, str] = field(default_factory=dict)
    """The partner's ids of what the record refers to: its client, its staff (if assigned), its visit."""
    partner_id: str | None = None
    """The partner's id of the record; None: it was never delivered."""
    partner_version: str | None = None
    """The partner's version that we last saw; None: none known."""


@dataclass(frozen=True)
class Delivered:
    """The partner has it."""

    partner_id: str
    partner_version: str
    warning: str | None = None
    """A code of the catalogue if it was taken with a remark."""


@dataclass(frozen=True)
class Retry:
    """Surely not applied, and worth another try."""

    reason: str
    params: Mapping[str, str] = field(default_factory=dict)
    not_before: datetime | None = None
    """The time that the partner named; None: our backoff decides."""


@dataclass(frozen=True)
class Refused:
    """Surely not applied, and not worth another try before something changes."""

    reason: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Conflict:
    """Surely not applied, because the partner's copy is not the one we knew."""

    reason: str
    params: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Unknown:
    """Perhaps applied. It must be read back before anything is sent again."""

    reason: str
    params: Mapping[str, str] = field(default_factory=dict)
    not_before: datetime | None = None
    """The time that the partner named for its next call, where the reason is of the whole connection; None: none."""


Reply = Delivered | Retry | Refused | Conflict | Unknown


def unsent(error: PartnerError) -> Retry | Refused:
    """The reply of a write that was given up since what comes before it failed: nothing was sent."""
    if isinstance(error, RetryableError):
        return Retry(error.reason, error.params, error.not_before)
    return Refused(error.reason, error.params)


@dataclass(frozen=True)
class Found:
    """The partner has the record."""

    partner_id: str
    partner_version: str
    differing: tuple[str, ...] = ()
    """Names of what it holds otherwise than the command says, never values. A field of Visit or VisitRecord; `client`,
    `staff` or `visit` for a link; `status` also where it is cancelled and should not be, or the other way round;
    `record_id` if it does not carry our identity; the partner's own name for what no field of ours tells."""
    theirs: Mapping[str, str] = field(default_factory=dict, repr=False)
    """What it holds there instead, as text, by the names in `differing`; what cannot be shown is left out. A person's
    data: it goes into the record's own history, never into a log."""

    @property
    def matches(self) -> bool:
        """Whether it holds what the command says."""
        return not self.differing


@dataclass(frozen=True)
class Absent:
    """The partner does not have the record."""


ReadBack = Found | Absent


# --- The connection ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Connection:
    """One tenant at one partner."""

    tenant: str
    partner: str
    base_url: str
    settings: Mapping[str, str]


@dataclass(frozen=True)
class Token:
    """What a partner lets us call it with for a while."""

    value: str = field(repr=False)
    lasts: timedelta
    """From its arrival."""


class Gate(Protocol):
    """The one way to a call: asks the limits, and learns of them what the partner says."""

    def admit(self, endpoint: str) -> None:
        """Return when one call to `endpoint` may be sent now. Raises errors.Deferred if that is too far off."""

    def leave(self) -> None:
        """The call that was admitted last is about to leave: its first byte goes out on return.

        Raises errors.Deferred if that is too late, for instance since it took long to connect.
        """

    def unheard(self) -> None:
        """The call that was admitted last has got no answer, and the partner may still be at work on it."""

    def heard(self, endpoint: str, told: Told) -> None:
        """What the partner said about its limits in an answer to a call to `endpoint` that was admitted."""

    def token(self, ask: Callable[[], Token], refused: str = "") -> str:
        """The token to call with: one for all processes of the connection, kept as safe as its credential.

        For partners that give tokens; no other needs it. `ask` gets a new one: where none is kept that is good for some
        time yet, or where that is `refused`, which the partner takes no more. It is asked by one at a time.

        Raises what `ask` raises, and errors.Deferred where somebody else asked and got none.
        """


@dataclass(frozen=True)
class Access:
    """What the connection may do with one entity; None: cannot be told without trying."""

    entity: Entity
    may_read: bool | None
    may_write: bool | None


@dataclass(frozen=True)
class CheckReport:
    """What a test of the connection found, without writing anything."""

    server: str
    """What the partner calls itself."""
    access: tuple[Access, ...]


class Connector(Protocol):
    """A partner's wire for one connection, used by one thread at a time."""

    def check(self) -> CheckReport:
        """Test address, credential and permissions without writing. Raises PartnerError."""

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """The pages of a reading: of all records, or of those changed since `cursor`. Raises PartnerError midway.

        What changed while the reading went on, or shortly before the cursor, comes again: readings overlap, and a
        record may come twice in one. Nothing is kept of the pages that were handed out: a list has any length.

        `resume`: the token of the last page that arrived of a reading that broke off, begun with the same `cursor`; its
        pages from there on. One that is none of its own is passed over, and all pages come.
        """

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """One record as it is now: the proof before a delete. Raises PartnerError."""

    @property
    def batch_size(self) -> int:
        """Most commands of one entity that one call can carry on this connection; 1: it has no batches."""

    def send(self, command: Command) -> Reply:
        """Write, once. Never raises for what the partner or the network does.

        Raises errors.Deferred alone, and only before anything is written.
        """

    def send_batch(self, commands: Sequence[Command]) -> Sequence[Reply]:
        """Write 2 to `batch_size` commands of one entity, of different records, in one call: a reply each, in order.

        The entries are independent: one that is refused stops no other. Where the partner refused the call as a whole,
        each reply is Refused("batch_refused"), and the platform sends smaller ones until the bad entry is alone; where
        its answer was lost, each is Unknown. Raises as `send`. Not called where `batch_size` is 1.
        """

    def find(self, command: Command) -> ReadBack:
        """Whether the partner has the command's record, and what of it differs. Raises PartnerError."""

    def close(self) -> None:
        """Let go of sockets."""


@dataclass(frozen=True)
class Setting:
    """One thing that a connection to this partner can or must be told."""

    key: str
    description: str
    default: str | None = None
    """None: it must be given."""


TLS_SECRETS = (
    Setting("ca_certificate", "PEM of the authority to trust, where the partner has one of its own", ""),
    Setting("client_certificate", "to be shown to the partner: PEM with its private key, or a .p12 file in base64", ""),
    Setting("client_certificate_password", "of the private key or the .p12 file", ""),
)
"""What each partner that is called over HTTP can be given besides; the platform makes the client with it."""


class FieldKind(StrEnum):
    """What stands in a field of a request or an answer: whether, or as what, it may be shown to support."""

    OPEN = "open"
    """A time, or a code of a few letters and digits: shown as it is. Where words stand, a pattern tells which."""
    ID = "id"
    """Of a record, or a reference to one: shown as it is. Not what people use: that is a number."""
    NAME = "name"
    KANA = "kana"
    NUMBER = "number"
    """Of a person: 患者番号, 被保険者番号, 職員番号."""
    BIRTH_DATE = "birth date"
    ADDRESS = "address"
    PHONE = "phone"
    NOTE = "note"
    """Free text, of whoever: the partner's messages too."""


Shown = Mapping[str, FieldKind | re.Pattern[str]]
"""By a field's name, or by the name of what it stands in and its own (`telecom.value`), what it holds: a kind, or the
pattern of all that may be shown of it."""


class Recovery(StrEnum):
    """What the partner offers when the answer to a write was lost. The strongest that it has."""

    KEY = "key"
    """It knows our key: the same write can be repeated, and is answered as it was the first time."""
    CLIENT_ID = "client_id"
    """It keeps the record under our own id: it can be read there, and a repeat makes no second one."""
    SEARCH = "search"
    """The record can be found by our key, or by what it says."""
    NONE = "none"
    """Neither: a person decides."""


@dataclass(frozen=True)
class PointRead:
    """`fetch` says of one record for sure whether it is there."""


@dataclass(frozen=True)
class DeleteEvents:
    """Every delete is told in a reading (`Page.gone`), and what is not told was not deleted."""


@dataclass(frozen=True)
class AfterReadings:
    """Neither: a record is gone that does not come in so many certified full readings, one after the other."""

    count: int
    """At least 2: a list that moves while it is read hides a record from one reading."""

    def __post_init__(self) -> None:
        if self.count < 2:
            raise ValueError("absence from one reading proves nothing")


@dataclass(frozen=True)
class NeverGone:
    """Nothing does: no reading is of all, nobody is deleted there, and who does not come is there still."""


ProofOfAbsence = PointRead | DeleteEvents | AfterReadings | NeverGone
"""What makes a delete of a record that did not come in a full reading."""


@dataclass(frozen=True)
class Capability:
    """What the platform may rely on at this partner; tested by the contract suite, not believed."""

    recovery: Recovery
    has_version_check: bool
    """Whether a write of an outdated version is refused by the partner."""
    is_incremental: bool
    """Whether changed records alone can be read."""
    key_lasts: timedelta | None = None
    """How long the partner remembers a key; None: for ever. Older doubt is a person's."""
    proves_absence: ProofOfAbsence = PointRead()
    """How a delete at the partner is known. Its delete events count in any case."""
    replaces: bool = False
    """Whether it has no update: a change takes the old copy away and makes another, under another id, and a cancelled
    record leaves nothing there. `find` tells a record that was there and is not as one that is cancelled (`status`)."""


@dataclass(frozen=True)
class CodeRow:
    """A row for a table that says what a partner's answers mean, so that an unknown error is known to the code too."""

    file: str
    """From the root of the code."""
    table: str
    """The name that is bound to the table."""
    line: str
    """As it stands there, without the end of the line."""


@dataclass(frozen=True)
class Partner:
    """A partner's declaration: the only thing that the registry holds."""

    name: str
    """Its name in commands, asset keys and tables: `^[a-z][a-z0-9_]*$`."""
    title: str
    reads: tuple[Entity, ...]
    writes: Mapping[Entity, str]
    """What is written, and the endpoint (as the gate knows it) that its writing calls. Empty: the partner is only read;
    nothing of the way out is there for it, and neither `send`, `send_batch` nor `find` is called."""
    capability: Capability
    settings: tuple[Setting, ...]
    secrets: tuple[Setting, ...]
    limits: tuple[str, ...]
    """Default limits in the grammar of `limits`; a connection's own replace them."""
    mapping_version: str
    """Raise it when the mapping changes: every record is mapped anew on the next reading."""
    map: Callable[[Entity, Json, Mapping[str, str]], Master | Unmappable]
    """Pure: entity, a SourceRecord's content and the connection's settings to a master."""
    open: Callable[[Connection, Mapping[str, str], httpx.Client, Gate], Connector]
    """A connector for a connection, given its secret, an HTTP client that it may close, and the gate."""
    parallel: int = 1
    """How many calls of one connection it may be sent at once, where no limit of the connection says less."""
    endpoints: tuple[str, ...] = ()
    """Every name that its connector gives the gate, those of `writes` among them, in the order in which they are shown.
    A limit of scope endpoint names one of these; a partner that declares none can have no such limit."""
    closed: tuple[str, ...] = ()
    """When it takes no calls, in the grammar of `windows`; a connection's own replace them (`closed_until`)."""
    unknown_fields: Callable[[Entity, Json], Collection[str]] | None = None
    """Pure: the names in a SourceRecord's content that the partner's format does not have, never values, each after the
    format's own word for what has it: `Patient.nickname`. Such a record is taken all the same; the names are shown, so
    that somebody looks. None: not looked for."""
    schemes: tuple[str, ...] = ("https", "http")
    """How its addresses begin: `file` for a folder on this machine."""
    leaves: str = ""
    """What stays there of a visit that was cancelled, told to whoever has tried it at a real system. Empty: the
    visit itself, as cancelled; nothing, if it `replaces`."""
    full_every: timedelta = timedelta(days=1)
    """How often all records are read, where changed ones alone can be; longer where that costs it many calls."""
    read_plans: Callable[[Connector, str | None], Iterator[PlanPage]] | None = None
    """The plans to compare with that a connector of this partner can read: all, or those since a cursor. Raises
    PartnerError midway; what came before it has come. None: the partner gives none, and nothing of them is there."""
    shown: Shown = field(default_factory=dict)
    """What stands in the fields of its requests and answers, by name, or by what it stands in and name
    (`telecom.value`). What is not named is masked as text, so an omission hides a code and shows no person."""
    code_row: Callable[[str, Reason], CodeRow | None] | None = None
    """Pure: the row that makes an answer of unknown cause that reason, by the `detail` which was told of the answer.
    None: its table has it already, or cannot say it. No function: its answers are never of unknown cause."""

    @property
    def masters(self) -> tuple[Entity, ...]:
        """The master entities that it is read for, in the order in which they are read."""
        return tuple(each for each in MASTERS if each in self.reads)

    @property
    def readings(self) -> tuple[Entity, ...]:
        """All that it is read for: the masters, and the plans to compare with if it gives any."""
        return self.masters if self.read_plans is None else (*self.masters, Entity.PLAN)

    def closed_until(self, own: Sequence[str] | None, moment: datetime) -> datetime | None:
        """When the closed time that `moment` (aware) lies in ends; None: it takes calls. `own`: the connection's."""
        return closed_at([parse_window(text) for text in (self.closed if own is None else own)], moment)
