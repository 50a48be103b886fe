"""What is told of a client's visits: the state that is kept of them, and the rows that it makes. Pure.

The standard has no change of a row. A client's actuals of a month are sent as a whole, and whoever receives them puts
them in the place of those before; where none is left, another file (DLTJSK) says that. So what was told of each visit
is kept, and a change of one makes all rows of its client and month anew.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from partners.contract import Command, Entity, Verb, Visit, VisitRecord
from partners.windows import JAPAN

Facts = Mapping[str, str]
"""What was said of a visit or of its record, as text, by the names of contract.Found."""


@dataclass(frozen=True)
class Office:
    """Ours, as its files name it."""

    code: str
    """事業所番号, ten digits."""
    kind: str
    """サービス種類コード, two digits."""
    version: str
    """CSVバージョン."""


@dataclass(frozen=True)
class Client:
    """Whose."""

    insurer: str
    insured: str

    @property
    def partner_id(self) -> str:
        """As readings spell it."""
        return f"{self.insurer}-{self.insured}"


@dataclass(frozen=True)
class Kept:
    """All that was told of one client's visits."""

    visits: Mapping[str, Facts] = field(default_factory=dict, repr=False)
    """By our id. `status` is booked or cancelled."""
    records: Mapping[str, Facts] = field(default_factory=dict, repr=False)
    """By the visit's id. `status` is done, absent or cancelled."""
    sent: Mapping[str, str] = field(default_factory=dict)
    """By month: what `mark` said of the rows that were sent last."""

    def told(self, entity: Entity, record: str) -> Facts | None:
        """What was said last; None: nothing was."""
        return (self.visits if entity is Entity.VISIT else self.records).get(record)

    def telling(self, entity: Entity, record: str, facts: Facts) -> Kept:
        """With this said."""
        if entity is Entity.VISIT:
            return replace(self, visits={**self.visits, record: facts})
        return replace(self, records={**self.records, record: facts})


def facts_of(command: Command) -> Facts:
    """What a command says. A cancelled one says that alone."""
    fields = command.fields
    if command.verb is Verb.CANCEL:
        return {"status": "cancelled"}
    if isinstance(fields, Visit):
        return {
            "status": "booked",
            "starts_at": _shown(fields.starts_at),
            "ends_at": _shown(fields.ends_at),
            "service_code": fields.service_code,
            "note": fields.note,
            "staff": command.links.get(Entity.STAFF, ""),
        }
    assert isinstance(fields, VisitRecord)
    return {
        "status": fields.status,
        "started_at": _shown(fields.started_at),
        "ended_at": _shown(fields.ended_at),
        "note": fields.note,
    }


def differing(wanted: Facts, told: Facts) -> tuple[str, ...]:
    """The names of what was told otherwise."""
    return tuple(name for name, value in wanted.items() if told.get(name, "") != value)


def months(kept: Kept) -> set[str]:
    """Those (YYYYMM) in which something was done or sent."""
    return {_month(kept, record) for record in kept.records if _is_done(kept, record)} | set(kept.sent)


def rows(kept: Kept, month: str, client: Client, office: Office, made_on: str) -> list[list[str]]:
    """第6表【実績】 of one client and month, by day and time. `made_on`: the day, YYYYMMDD."""
    done = sorted(
        (began, ended, kept.visits[record]["service_code"])
        for record in kept.records
        if _is_done(kept, record) and _month(kept, record) == month
        for began, ended in [_times(kept, record)]
    )
    return [
        [
            *(office.version, client.insurer, client.insured, made_on, month, "", "", "", ""),
            *(f"{began:%Y%m%d}", "", f"{began:%H%M}", f"{ended:%H%M}", "1", service, "", "", "", ""),
            *(office.code, "", "", "0", office.code, ""),
        ]
        for began, ended, service in done
    ]


def deletion(month: str, client: Client, office: Office) -> list[str]:
    """The row of DLTJSK: nothing is left of the client's month."""
    return [office.version, client.insurer, client.insured, month, office.code, office.kind]


_MADE_ON = 3
"""The column of the day on which a row was made: another day is no other content."""


def mark(told: Sequence[Sequence[str]]) -> str:
    """The same for the same rows, on whatever day they were made; empty for none."""
    if not told:
        return ""
    plain = [[*row[:_MADE_ON], *row[_MADE_ON + 1 :]] for row in told]
    return hashlib.sha256(json.dumps(plain, ensure_ascii=False).encode()).hexdigest()


def spelled(kept: Kept) -> bytes:
    """As it is stored."""
    return json.dumps(
        {"visits": kept.visits, "records": kept.records, "sent": kept.sent}, ensure_ascii=False, sort_keys=True
    ).encode()


def parsed(text: bytes) -> Kept:
    """What `spelled` said. ValueError if it did not."""
    told: Any = json.loads(text)
    try:
        return Kept(dict(told["visits"]), dict(told["records"]), dict(told["sent"]))
    except (KeyError, TypeError) as error:
        raise ValueError("no state of a client") from error


def _is_done(kept: Kept, record: str) -> bool:
    visit = kept.visits.get(record)
    return kept.records[record]["status"] == "done" and visit is not None and visit["status"] == "booked"


def _times(kept: Kept, record: str) -> tuple[datetime, datetime]:
    """From when to when, in Japan: as it was, or as it was planned where that was not told."""
    visit, told = kept.visits[record], kept.records[record]
    began, ended = told["started_at"] or visit["starts_at"], told["ended_at"] or visit["ends_at"]
    return datetime.fromisoformat(began), datetime.fromisoformat(ended)


def _month(kept: Kept, record: str) -> str:
    return f"{_times(kept, record)[0]:%Y%m}"


def _shown(moment: datetime | None) -> str:
    return "" if moment is None else moment.astimezone(JAPAN).isoformat(timespec="minutes")
