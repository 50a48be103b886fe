"""Reading crews, in full or since a cursor.

- There is no filter by the time of change, so the list is read by that time, newest first: of the changed ones as far
  as the cursor and some minutes beyond, of all to its end.
- Pages are numbered and cut from live data. What is changed or added meanwhile moves to the front and pushes the others
  down: some come twice, and who moved comes with the next reading, since a cursor is the newest time on the first page
  and never a later one. Who is deleted pulls the others up, one of them unseen over the page's edge; the total tells,
  and the pages before are read again.
- That and the order among equal times are a full reading's to judge: its certificate counts ids against the total.
- Where a page is not in that order, SmartHR has not taken the wish, and the whole list is read.
- A name of a position that is changed is no change of a crew. The next full reading brings it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

from partners.contract import Gone, Json, Page, SourceRecord
from partners.smarthr.server import AT_ONCE, FIELDS, Listed, Server, id_of

OVERLAP = timedelta(minutes=5)
"""How far beyond the cursor a reading of changes goes."""
_NAMED = ("positions", "job_category")
_MOST_PAGE = 1_000_000


@dataclass(frozen=True)
class Place:
    """Where a reading stands: what its token is made of."""

    page: int = 1
    """The next one."""
    newest: datetime | None = None
    """The latest change on the first page; None: not read, or it says none."""
    total: int | None = None
    """As the last page told."""

    @classmethod
    def parse(cls, token: str | None) -> Place:
        """The place in a token. One that is none of ours is as good as none: all is read."""
        try:
            told = json.loads(token or "{}")
            page, newest, total = told["page"], told["newest"], told["total"]
            parsed = None if newest is None else parse_moment(newest)
        except (ValueError, TypeError, KeyError):
            return cls()
        is_ours = type(page) is int and 1 < page <= _MOST_PAGE and (total is None or type(total) is int)
        return cls(page, parsed, total) if is_ours else cls()

    def token(self) -> str:
        """What `parse` reads."""
        newest = None if self.newest is None else _instant(self.newest)
        return json.dumps({"page": self.page, "newest": newest, "total": self.total})

    def after(self, listed: Listed) -> Place:
        """Past a page, or before it again by as many pages as were deleted meanwhile."""
        newest = _newest(listed) if self.page == 1 and self.newest is None else self.newest
        lost = 0 if self.total is None or listed.total is None else max(self.total - listed.total, 0)
        following = max(self.page - -(-lost // AT_ONCE), 1) if lost else self.page + 1
        return Place(following, newest, listed.total)


def read_crews(server: Server, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
    """The pages of all crews, or of those changed since the cursor. Raises PartnerError."""
    since, place = _since(cursor), Place.parse(resume)
    while True:
        listed, number = server.crews(place.page), place.page
        place = place.after(listed)
        is_back = place.page <= number
        is_last = not is_back and (not listed.has_more or (since is not None and _is_before(listed, since - OVERLAP)))
        page = Page(
            tuple(map(crew_record, listed.crews)),
            is_full=since is None,
            total=listed.total if since is None else None,
            nameless=listed.nameless,
        )
        if is_last:
            newest = place.newest or since
            yield replace(page, is_last=True, cursor=None if newest is None else _instant(newest))
            return
        yield replace(page, resume=place.token() if place.page > 1 else None)


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


def _times(listed: Listed) -> list[datetime | None]:
    return [_time(crew) for crew in listed.crews]


def _time(crew: Json) -> datetime | None:
    try:
        return parse_moment(crew.get("updated_at"))
    except ValueError:
        return None


def _newest(listed: Listed) -> datetime | None:
    """The latest change on a page, not later than the answer: a time in the future would hide changes until then."""
    known = [time for time in _times(listed) if time is not None]
    if not known:
        return None
    newest = max(known)
    return newest if listed.at is None else min(newest, listed.at)


def _is_before(listed: Listed, moment: datetime) -> bool:
    """Whether all that comes after this page was changed before: it ends there, and is in order."""
    times = [time for time in _times(listed) if time is not None]
    is_ordered = len(times) == len(listed.crews) and times == sorted(times, reverse=True)
    return bool(times) and is_ordered and times[-1] < moment


def _since(cursor: str | None) -> datetime | None:
    """The time in a cursor. One that is none of ours is as good as none: all is read."""
    try:
        return parse_moment(cursor)
    except ValueError:
        return None


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).isoformat()
