"""Reading crews, in full or since a cursor.

There is no filter by the time of change, so the list is read by that time, newest first: of the changed ones as far as
the cursor and some minutes beyond, of all to its end. Pages are numbered and cut from live data:

- What is changed or added meanwhile moves to the front and pushes the others down. Some come twice. Who has moved comes
  with the next reading, since a cursor is the newest time on the first page and never a later one.
- Who is deleted pulls the others up, one of them unseen over the page's edge; where an edge lies among equal times, who
  is on which side may change with each call. A full reading is judged by its certificate, which counts ids against the
  total. One of changes has none, so its cursor moves on only if its pages surely followed each other: else the next
  reading begins where this one did.
- Where a page is not in that order, SmartHR has not taken the wish, and the whole list is read.
- A position that gets another name changes no crew. The next full reading brings it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from partners.contract import Gone, Json, Page, SourceRecord
from partners.smarthr.server import FIELDS, Listed, Server, id_of

OVERLAP = timedelta(minutes=5)
"""How far beyond the cursor a reading of changes goes: a change may be seen later than its time says."""
_NAMED = ("positions", "job_category")
_MOST_PAGE = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where a reading stands: what its token is made of."""

    page: int = 1
    """The next one."""
    newest: datetime | None = None
    """The latest change on the first page; None: not read, or it says none."""
    edge: datetime | None = None
    """The time of the last crew on the page before."""
    total: int | None = None
    """As the page before told."""
    is_gapless: bool = True
    """Whether each page surely began where the one before ended."""

    @classmethod
    def parse(cls, token: str | None) -> Place:
        """The place in a token. One that is none of ours is as good as none: all is read."""
        try:
            told = json.loads(token or "{}")
            newest, edge = (None if told[name] is None else parse_moment(told[name]) for name in ("newest", "edge"))
            place = cls(told["page"], newest, edge, told["total"], told["is_gapless"])
        except (ValueError, TypeError, KeyError):
            return cls()
        is_ours = type(place.page) is int and 1 < place.page <= _MOST_PAGE and type(place.is_gapless) is bool
        return place if is_ours and (place.total is None or type(place.total) is int) else cls()

    def token(self) -> str:
        """What `parse` reads."""
        times = {"newest": self.newest, "edge": self.edge}
        told = {name: None if time is None else _instant(time) for name, time in times.items()}
        return json.dumps({"page": self.page, "total": self.total, "is_gapless": self.is_gapless, **told})

    def after(self, listed: Listed) -> Place:
        """Past a page."""
        times = _times(listed)
        follows = self.edge is not None and bool(times) and times[0] < self.edge
        is_smaller = self.total is not None and (listed.total is None or listed.total < self.total)
        is_gapless = self.page == 1 or (self.is_gapless and follows and not is_smaller)
        newest = _newest(listed) if self.page == 1 else self.newest
        return Place(self.page + 1, newest, times[-1] if times else None, listed.total, is_gapless)


def read_crews(server: Server, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
    """The pages of all crews, or of those changed since the cursor. Raises PartnerError."""
    since, place = _since(cursor), Place.parse(resume)
    while True:
        listed = server.crews(place.page)
        place = place.after(listed)
        page = Page(
            tuple(map(crew_record, listed.crews)),
            is_full=since is None,
            total=listed.total if since is None else None,
            nameless=listed.nameless,
        )
        if not listed.has_more or (since is not None and _ends_before(listed, since - OVERLAP)):
            newest = place.newest if since is None or place.is_gapless else since
            yield replace(page, is_last=True, cursor=None if newest is None else _instant(newest))
            return
        yield replace(page, resume=place.token())


def fetch_crew(server: Server, partner_id: str) -> SourceRecord | Gone:
    """One crew as SmartHR has it now. Raises PartnerError."""
    found = server.crew(partner_id)
    return found if isinstance(found, Gone) else crew_record(found)


def crew_record(crew: Json) -> SourceRecord:
    """A crew as the platform takes it: what masters are made of, whatever else came."""
    content = {name: said for name in FIELDS if (said := crew.get(name)) not in (None, "", [], {})}
    del content["id"]
    version = content.pop("updated_at", "")
    for name in _NAMED:
        if name in content:
            content[name] = _names(content[name])
    return SourceRecord(id_of(crew), version if isinstance(version, str) else "", content)


def parse_moment(text: object) -> datetime:
    """A time with its offset. ValueError if it is none."""
    if not isinstance(text, str):
        raise ValueError("not a time")
    moment = datetime.fromisoformat(text)
    if moment.tzinfo is None or not 1900 < moment.year < 9999:
        raise ValueError("not a time with an offset")
    return moment


def _names(said: object) -> object:
    """The names of positions, or that of a job category; of another shape, as it is: the mapping judges it."""
    if isinstance(said, list):
        return [_names(each) for each in said]
    return said["name"] if isinstance(said, dict) and "name" in said else said


def _times(listed: Listed) -> Sequence[datetime]:
    """The times of all crews on a page, in its order; none if one of them has none."""
    try:
        return [parse_moment(crew.get("updated_at")) for crew in listed.crews]
    except ValueError:
        return ()


def _newest(listed: Listed) -> datetime | None:
    """The latest change on a page, not later than the answer: a time in the future would hide changes until then."""
    times = _times(listed)
    if not times:
        return None
    return max(times) if listed.at is None else min(max(times), listed.at)


def _ends_before(listed: Listed, moment: datetime) -> bool:
    """Whether all that comes after this page was changed before: it ends there, and is in order."""
    times = _times(listed)
    return bool(times) and times[-1] < moment and list(times) == sorted(times, reverse=True)


def _since(cursor: str | None) -> datetime | None:
    """The time in a cursor. One that is none of ours is as good as none: all is read."""
    try:
        return parse_moment(cursor)
    except ValueError:
        return None


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
