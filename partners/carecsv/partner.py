"""The declaration of care CSV (ケアプランデータ連携標準仕様): clients as care managers' offices tell them, in files.

No file says that somebody is gone. A client who moves to another municipality gets another number there, and is
somebody new to us until a person says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from partners.carecsv.client import CareCsvConnector
from partners.carecsv.folder import FILES, Folder
from partners.carecsv.mapping import map_record
from partners.contract import (
    Capability,
    Connection,
    Connector,
    DeleteEvents,
    Entity,
    Gate,
    Partner,
    Recovery,
    Setting,
)
from partners.errors import RejectedError

STILL_SECONDS = 5.0
"""So long nobody must have touched a file before it is read."""
_OFFICE = re.compile(r"\d{10}", re.ASCII)


def open_connector(connection: Connection, secret: Mapping[str, str], client: httpx.Client, gate: Gate) -> Connector:
    """A connector; nothing is looked at yet. RejectedError if the address or a setting is missing or wrong."""
    place = urlsplit(connection.base_url)
    path = unquote(place.path)
    if place.scheme != "file" or place.netloc not in ("", "localhost") or not path.startswith("/"):
        raise RejectedError("address_wrong")
    office = connection.settings.get("office", "").strip()
    if not _OFFICE.fullmatch(office):
        raise RejectedError("settings_missing", {"key": "office"})
    return CareCsvConnector(Folder(Path(path), gate, STILL_SECONDS), office, client)


CARECSV = Partner(
    name="carecsv",
    title="Care CSV (ケアプランデータ連携)",
    reads=(Entity.CLIENT,),
    writes={},
    capability=Capability(Recovery.NONE, has_version_check=False, is_incremental=True, proves_absence=DeleteEvents()),
    settings=(Setting("office", "code of the office (事業所番号, ten digits) to which the files are sent"),),
    secrets=(),
    limits=(),
    mapping_version="1",
    map=map_record,
    open=open_connector,
    endpoints=(FILES,),
    schemes=("file",),
)
