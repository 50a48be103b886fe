"""What a record that came is stored as: its fingerprint, its master or why it has none, and what is odd about it.

Pure. The names of fields go into reports; those that the partner may have made of data do not.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from hashlib import sha256
from typing import Any, NamedTuple

from partners.contract import Entity, Partner, SourceRecord, Unmappable
from zest_pipelines.core.fingerprint import UnstorableText, canonical, fingerprint, spelling
from zest_pipelines.flows.places import place_of
from zest_pipelines.store.landed import NewVersion

MOST_FIELDS = 20
_JSON = json.JSONEncoder(ensure_ascii=False)
_FIELD = re.compile(r"_?[a-z][A-Za-z0-9]{0,39}(\[\d{1,6}\])*", re.ASCII)


class Hashed(NamedTuple):
    """A record with its fingerprint, made once: hashing is most of what an unchanged night costs."""

    record: SourceRecord
    mark: bytes
    spelled: str | None = None
    """Its content as JSON, where hashing it spelled it as it came."""
    flaw: UnstorableText | None = None
    """Why its content cannot be stored as it is."""


class Taken(NamedTuple):
    """A new version, and the printable names of the fields in it that the partner's format does not have."""

    version: NewVersion
    unknown: Sequence[str] = ()


@dataclass(frozen=True)
class Mapper:
    """How one entity of a connection is mapped."""

    partner: Partner
    entity: Entity
    settings: Mapping[str, str]

    @cached_property
    def version(self) -> str:
        """What a master depends on besides the content: a changed setting maps every record anew."""
        return f"{self.partner.mapping_version}/{sha256(canonical(self.settings)).hexdigest()}"

    def hashed(self, record: SourceRecord) -> Hashed:
        """The record with its fingerprint."""
        try:
            spelled, as_it_came = spelling(record.content)
        except UnstorableText as flaw:
            stand_in = _unstorable(flaw, record)
            return Hashed(record, fingerprint(canonical(stand_in), self.version), _JSON.encode(stand_in), flaw)
        return Hashed(record, fingerprint(spelled, self.version), as_it_came)

    def taken(self, hashed: Hashed) -> Taken:
        """The record as it is to be stored. Never raises for what is in it."""
        record, mark, spelled, flaw = hashed
        content = _JSON.encode(record.content) if spelled is None else spelled
        key = record.partner_id, mark, record.partner_version, content
        if flaw is not None:
            return Taken(NewVersion(*key, problem="field_invalid", params={"field": _printable(flaw.path)}))
        unknown = self._unknown(record)
        try:
            master = self.partner.map(self.entity, record.content, self.settings)
        except Exception as error:  # noqa: BLE001  # a fault of ours in one record must not stop the reading
            master = Unmappable("internal_error", {"detail": place_of(error)})
        if isinstance(master, Unmappable):
            return Taken(NewVersion(*key, problem=master.reason, params=master.params), unknown)
        return Taken(NewVersion(*key, _spelled(vars(master))), unknown)

    def _unknown(self, record: SourceRecord) -> Sequence[str]:
        if self.partner.unknown_fields is None:
            return ()
        try:
            found = self.partner.unknown_fields(self.entity, record.content)
        except Exception:  # noqa: BLE001  # a fault of ours must not cost a record that can be mapped
            return ("?",)
        return sorted({_after_kind(name) for name in found})[:MOST_FIELDS] if found else ()


def is_stand_in(content: Mapping[str, Any]) -> bool:
    """Whether a stored content stands for one that no database takes, and can tell no more of the record."""
    return content.keys() == {"unstorable", "partner_version"}


def _after_kind(name: str) -> str:
    """`Patient.nickname` with the field printable: the kind is the partner's module's own word."""
    kind, dot, path = name.partition(".")
    return f"{kind}.{_printable(path)}" if dot else _printable(name)


def _printable(path: str) -> str:
    """The path, `?` in place of each name that does not look like a field's: it may be a person's name or number."""
    return ".".join(name if _FIELD.fullmatch(name) else "?" for name in path.split("."))


def _unstorable(error: UnstorableText, record: SourceRecord) -> dict[str, str]:
    """What stands for a content that no database takes: where the fault is, and in which of the record's states."""
    return {"unstorable": error.path, "partner_version": record.partner_version}


def _spelled(master: Mapping[str, Any]) -> dict[str, Any]:
    """A master as JSON has it."""
    return {name: value.isoformat() if value.__class__ is date else value for name, value in master.items()}
