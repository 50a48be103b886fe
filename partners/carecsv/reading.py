"""Clients out of the files in the folder: each as the newest file that tells of it has it.

Files are never a list of all: who is in none of them is not gone, and no reading says so. They are taken from the
newest to the oldest, and of a client only what comes first, so that a reading shows each once however many files tell
of it, and an old file that somebody copies into the folder again takes nothing back. Files of one time are one set, and
in it the name decides, which is the same each time.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

from partners.carecsv.filenames import FileName, claims_to_be, parse_name
from partners.carecsv.folder import Folder
from partners.carecsv.layouts import CLIENTS, COLUMNS, INSURED, INSURER
from partners.carecsv.table import TableError, rows
from partners.contract import Gone, Json, Page, SourceRecord
from partners.errors import RejectedError

MOST_RECORDS = 500
"""On a page."""
ODD = "columns"
"""The only word of a row that has another number of columns than its layout."""
_INSURER = re.compile(r"\d{6}", re.ASCII)
_INSURED = re.compile(r"\d{10}|H[0-9A-Z]{9}", re.ASCII)
"""The second: of who lives on public assistance and has no insurance."""
_USED = tuple(each.name for each in COLUMNS[1:12])
"""What masters are made of. What care a person is entitled to is none of it, and would change each month."""


def read_clients(folder: Folder, receiver: str, cursor: str | None) -> Iterator[Page]:
    """The pages of all clients that any file tells of, or of those in files of the cursor's time and later ones.

    `receiver`: the code of the office that takes files; those to another one are not ours. A file that cannot be read
    keeps no other back, but the reading does not end well. Raises PartnerError.
    """
    files, bad = files_of((CLIENTS,), folder, receiver)
    wanted = [each for each in files if cursor is None or each.time >= cursor]
    newest = wanted[-1].time if wanted else cursor
    seen: set[str] = set()
    pending: list[SourceRecord] = []
    nameless = 0
    for each in reversed(wanted):
        try:
            table = _rows(folder, each)
        except RejectedError as error:
            bad.append(error)
            continue
        for found in map(_record, table):
            if found is None:
                nameless += 1
            elif found.partner_id not in seen:
                seen.add(found.partner_id)
                pending.append(found)
            if len(pending) == MOST_RECORDS:
                yield Page(tuple(pending), is_full=False)
                pending.clear()
    if bad:
        yield Page(tuple(pending), is_full=False)
        raise bad[0]
    yield Page(tuple(pending), is_full=False, is_last=True, nameless=nameless, cursor=newest)


def fetch_client(folder: Folder, receiver: str, partner_id: str) -> SourceRecord | Gone:
    """One client, as the newest file that tells of it has it; Gone: none does. Raises PartnerError."""
    files, bad = files_of((CLIENTS,), folder, receiver)
    if bad:
        raise bad[0]
    for each in reversed(files):
        for found in map(_record, _rows(folder, each)):
            if found is not None and found.partner_id == partner_id:
                return found
    return Gone()


def senders(folder: Folder, receiver: str) -> dict[str, str]:
    """By each client's id the office that told of it last. Files that cannot be read tell of nobody. Raises
    PartnerError."""
    files, _ = files_of((CLIENTS,), folder, receiver)
    found: dict[str, str] = {}
    for each in files:
        with suppress(RejectedError):
            told = [record.partner_id for record in map(_record, _rows(folder, each)) if record is not None]
            found |= dict.fromkeys(told, each.sender)
    return found


def files_of(kinds: Collection[str], folder: Folder, receiver: str) -> tuple[Sequence[FileName], list[RejectedError]]:
    """Those of the kinds to the receiver, oldest first, up to the first that is still being written; and what has no
    proper name. Raises PartnerError."""
    found, bad, busy = list[FileName](), list[RejectedError](), list[str]()
    for each in folder.names():
        names = [name for kind in kinds if (name := parse_name(kind, each.name)) is not None]
        if not names and any(claims_to_be(kind, each.name) for kind in kinds):
            bad.append(unreadable(each.name, "name"))
        for name in names:
            if name.receiver == receiver:
                found.append(name)
                busy += [] if each.is_still else [name.time]
    until = min(busy, default=None)  # a later one that is read first would hide it for ever
    return sorted(each for each in found if until is None or each.time < until), bad


def _rows(folder: Folder, file: FileName) -> list[list[str]]:
    content = folder.content(file.name)
    try:
        return [] if content is None else rows(content)
    except TableError as error:
        raise unreadable(file.name, str(error)) from None


def numbers(row: Sequence[str]) -> tuple[str, str] | None:
    """Insurer and insured, which stand in the same columns of all layouts; None: it does not say whose it is."""
    insurer, insured = (row[number].strip() if len(row) > number else "" for number in (1, 2))
    return (insurer, insured) if _INSURER.fullmatch(insurer) and _INSURED.fullmatch(insured) else None


def _record(row: list[str]) -> SourceRecord | None:
    """None: it does not say whose it is."""
    if (whose := numbers(row)) is None:
        return None
    insurer, insured = whose
    content: Json = {INSURER: insurer, INSURED: insured, ODD: len(row)}
    if len(row) == len(COLUMNS):
        told = dict(zip((each.name for each in COLUMNS), row, strict=True))
        content = {name: said for name in _USED if (said := told[name].strip())}
    return SourceRecord(f"{insurer}-{insured}", "", content)


def unreadable(name: str, why: str) -> RejectedError:
    """A file that is none of the standard's; `why` quotes nothing of it. Bytes of its name that are no UTF-8 can be
    stored nowhere: a question mark stands for each."""
    return RejectedError("file_unreadable", {"file": name.encode(errors="replace").decode(), "why": why})
