"""Reading masters, in full or since a cursor.

What a reading may rely on, and what not:

- Servers may ignore a parameter. The `self` link shows what they used (R4, Search): if `_lastUpdated` is
  not in it, the reading was of all records.
- Pages are sorted by id. Servers page by offset over live data: sorted by time, a record that changes
  meanwhile moves to the end and pulls another one, unseen, over the page's edge. Sorted by id only a delete
  does that.
- The cursor is the latest time that the server wrote on a record, never our clock, and the next reading
  begins some minutes before it, since servers stamp a record before others can see it. It is never later than
  the first answer: a record of a page already read may change before one that is still to come, and a reading
  that is long, or was taken up, would leave it behind for good.
- Deletes are told by no search. They are found by a full reading, whose missing records are then asked for.
- A list has any length, so nothing is kept of a page but the latest times on it: what comes twice is handed on twice.
  After each page a reading of a whole list can be taken up by the address of the next one. The changed members of
  staff are few, and begun anew. What is joined, roles above all, is held in memory, to a bound (`search.MOST_WHOLE`),
  and roles are asked for twice: who seems to have none would be taken for somebody who works here.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from partners.contract import Json, Page, SourceRecord
from partners.fhir.elements import local_reference
from partners.fhir.search import Hits, search, surely_whole, whole
from partners.fhir.server import Server, id_of, version_of
from partners.fhir.times import parse_moment

OVERLAP = timedelta(minutes=5)
"""How long before the cursor a reading begins."""
PAGE_SIZE = 200
_IDS_AT_ONCE = 40  # ids are up to 64 characters, addresses should stay below 4 KB


@dataclass
class Marks:
    """The latest meta.lastUpdated by resource type: what a cursor is made of."""

    latest: dict[str, datetime] = field(default_factory=dict)
    begun_at: datetime | None = None
    """When the reading's first answer was made, by the server's clock; None: there is none yet, or it does not say."""

    @classmethod
    def parse(cls, cursor: str | None) -> Marks:
        """The marks in a cursor. One that is none of ours is as good as none: all is read."""
        try:
            return cls({kind: parse_moment(text) for kind, text in json.loads(cursor or "{}").items()})
        except (ValueError, AttributeError):
            return cls()

    def begin(self, at: datetime | None) -> None:
        """Note when an answer was made; the first one counts."""
        self.begun_at = self.begun_at or at

    def note(self, resource: Json) -> None:
        """Take a resource's time into account, if it has one: as that of the first answer if it is later."""
        meta = resource.get("meta")
        kind = str(resource.get("resourceType"))
        try:
            moment = parse_moment(meta.get("lastUpdated") if isinstance(meta, dict) else None)
        except ValueError:
            return
        moment = min(moment, self.begun_at or moment)
        self.latest[kind] = max(moment, self.latest.get(kind, moment))

    def cursor(self, *kinds: str) -> str | None:
        """The cursor for the next reading of `kinds`; None unless there is a time for the first."""
        known = {kind: self.latest[kind] for kind in kinds if kind in self.latest}
        return Marks(known).spelled() if kinds[0] in known else None

    def spelled(self) -> str:
        """What `parse` reads."""
        return json.dumps({kind: _instant(moment) for kind, moment in self.latest.items()}, sort_keys=True)


@dataclass(frozen=True)
class Place:
    """Where a reading stood after a page: what its token is made of."""

    following: str
    is_full: bool
    marks: Marks

    @classmethod
    def parse(cls, token: str | None) -> Place | None:
        """The place in a token. One that is none of ours is as good as none: all is read."""
        try:
            told = json.loads(token or "{}")
            following, is_full, marks = told["following"], told["is_full"], told["marks"]
            begun_at = parse_moment(told["begun_at"]) if told.get("begun_at") else None
        except (ValueError, TypeError, KeyError, AttributeError):
            return None
        is_ours = isinstance(following, str) and isinstance(is_full, bool) and isinstance(marks, str)
        return cls(following, is_full, Marks(Marks.parse(marks).latest, begun_at)) if is_ours else None

    def token(self) -> str:
        """What `parse` reads."""
        told = {"following": self.following, "is_full": self.is_full, "marks": self.marks.spelled()}
        begun_at = self.marks.begun_at
        return json.dumps(told | {"begun_at": None if begun_at is None else _instant(begun_at)})


def read_clients(server: Server, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
    """The pages of all Patients, or of those changed since the cursor. Raises PartnerError."""
    place = Place.parse(resume)
    since = Marks.parse(cursor).latest.get("Patient")
    marks = Marks.parse(cursor) if place is None else place.marks
    is_full = None if place is None else place.is_full
    for hits in search(server, "Patient", _listing(since), None if place is None else place.following):
        if is_full is None:
            is_full = _is_full(since, hits)
        marks.begin(hits.at)
        for resource in hits.resources:
            marks.note(resource)
        records = tuple(map(client_record, hits.resources))
        yield _page(records, is_full, hits, marks, "Patient")


def client_record(patient: Json) -> SourceRecord:
    """A Patient as the platform takes it."""
    return SourceRecord(id_of(patient), version_of(patient), _content(patient))


def read_staff(server: Server, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
    """The pages of all Practitioners with their roles, or of those where either changed."""
    marks = Marks.parse(cursor)
    since = marks.latest.get("Practitioner")
    if since is None:
        yield from _all_staff(server, marks, Place.parse(resume))
    else:
        yield from _changed_staff(server, marks, since)


def staff_record(practitioner: Json, roles: Iterable[Json]) -> SourceRecord:
    """A Practitioner joined with the PractitionerRoles that point at it, in the order of their ids."""
    roles = sorted(roles, key=id_of)
    # A changed role is a changed member of staff, so the mark of the state is made of all of them.
    version = ",".join([version_of(practitioner), *(f"{id_of(role)}:{version_of(role)}" for role in roles)])
    content = {"practitioner": _content(practitioner), "roles": [_content(role) for role in roles]}
    return SourceRecord(id_of(practitioner), version, content)


def roles_of(server: Server, practitioner_ids: Sequence[str]) -> dict[str, list[Json]]:
    """The roles of these practitioners, by practitioner id; one without a role is not in it."""
    asked = {"practitioner": ",".join(practitioner_ids), **_listing(None)}
    return _by_practitioner(surely_whole(server, "PractitionerRole", asked).resources)


def _all_staff(server: Server, marks: Marks, place: Place | None) -> Iterator[Page]:
    # Roles first: one made in between belongs to the next reading, and nobody lacks an old one.
    listed = surely_whole(server, "PractitionerRole", _listing(None))
    roles = listed.resources
    if place is None:
        marks.begin(listed.at)
        for role in roles:
            marks.note(role)
    else:  # the pages before it were joined with the roles of then: what changed since belongs to the next reading
        marks = place.marks
    held = _by_practitioner(roles)
    for hits in search(server, "Practitioner", _listing(None), None if place is None else place.following):
        for practitioner in hits.resources:
            marks.note(practitioner)
        records = tuple(staff_record(each, held.get(id_of(each), ())) for each in hits.resources)
        yield _page(records, True, hits, marks, "Practitioner", "PractitionerRole")


def _page(records: tuple[SourceRecord, ...], is_full: bool, hits: Hits, marks: Marks, *kinds: str) -> Page:
    """A page of a whole list: the last one has the cursor, every other one the place after it."""
    page = Page(records, is_full, hits.total, nameless=hits.nameless)
    if hits.following is None:
        return replace(page, is_last=True, cursor=marks.cursor(*kinds))
    return replace(page, resume=Place(hits.following, is_full, marks).token())


def _changed_staff(server: Server, marks: Marks, since: datetime) -> Iterator[Page]:
    """Every practitioner who changed or of whom a role did, in the groups in which they are completed.

    A role that was moved from one person to another brings the new holder only; a full reading the other.
    """
    people = whole(server, "Practitioner", _listing(since))
    marks.begin(people.at)
    is_full = _is_full(since, people)
    changed = {id_of(practitioner): practitioner for practitioner in people.resources}
    roles_since = marks.latest.get("PractitionerRole", since)
    roles = whole(server, "PractitionerRole", _listing(roles_since)).resources
    for resource in (*changed.values(), *roles):
        marks.note(resource)
    ids = sorted({*changed, *_by_practitioner(roles)})
    for start in range(0, max(len(ids), 1), _IDS_AT_ONCE):
        group = ids[start : start + _IDS_AT_ONCE]
        is_last = start + _IDS_AT_ONCE >= len(ids)
        records = tuple(_completed(server, group, changed))
        cursor = marks.cursor("Practitioner", "PractitionerRole") if is_last else None
        yield Page(records, is_full, None, is_last, cursor=cursor)


def _completed(server: Server, ids: Sequence[str], changed: Mapping[str, Json]) -> Iterator[SourceRecord]:
    if not ids:
        return
    missing = [each for each in ids if each not in changed]
    people = dict(changed)
    if missing:
        asked = {"_id": ",".join(missing), **_listing(None)}
        people |= {id_of(each): each for each in whole(server, "Practitioner", asked).resources}
    held = roles_of(server, ids)
    for each in ids:
        if each in people:  # else a role points at nobody
            yield staff_record(people[each], held.get(each, ()))


def _by_practitioner(roles: Iterable[Json]) -> dict[str, list[Json]]:
    held: dict[str, list[Json]] = defaultdict(list)
    for role in roles:
        kind, _, practitioner_id = (local_reference(role.get("practitioner")) or "").partition("/")
        if kind == "Practitioner":
            held[practitioner_id].append(role)
    return held


def _listing(since: datetime | None) -> dict[str, str]:
    listing = {"_sort": "_id", "_count": str(PAGE_SIZE), "_total": "accurate"}
    return listing if since is None else {"_lastUpdated": f"ge{_instant(since - OVERLAP)}", **listing}


def _is_full(since: datetime | None, first: Hits) -> bool:
    """Whether the reading is of all records. A server that does not say is believed to have used the time."""
    return since is None or (first.understood is not None and "_lastUpdated" not in first.understood)


def _content(resource: Json) -> Json:
    """The resource without what changes by itself."""
    meta = resource.get("meta")
    if not isinstance(meta, dict):
        return resource
    rest = resource.copy()
    del rest["meta"]
    if kept := {name: value for name, value in meta.items() if name not in _CHANGES_BY_ITSELF}:
        rest["meta"] = kept
    return rest


_CHANGES_BY_ITSELF = ("versionId", "lastUpdated")


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
