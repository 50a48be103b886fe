"""The declaration of care CSV (ケアプランデータ連携標準仕様): files that we and care managers' offices exchange.

Clients and plans come in, actuals go out. No file says that somebody is gone. A client who moves to another
municipality gets another number there, and is somebody new to us until a person says otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from datetime import datetime
from pathlib import Path
from urllib.parse import unquote, urlsplit

import httpx

from partners.carecsv.actuals import Office
from partners.carecsv.client import CareCsvConnector
from partners.carecsv.folder import FILES, Folder
from partners.carecsv.mapping import map_record
from partners.carecsv.outbox import Outbox
from partners.carecsv.places import Local, Place
from partners.carecsv.plans import read_plans
from partners.contract import (
    Capability,
    Connection,
    Connector,
    Entity,
    Gate,
    NeverGone,
    Partner,
    PlanPage,
    Recovery,
    Setting,
)
from partners.errors import AuthenticationError, RejectedError
from partners.windows import JAPAN

STILL_SECONDS = 5.0
"""So long nobody must have touched a file before it is read."""
IN, OUT, STATE = "in", "out", "zest-state"
"""Folders within that of the connection: what comes, what goes, and what was told."""
_OFFICE = re.compile(r"\d{10}", re.ASCII)
_PATTERNS = {"office": _OFFICE, "kind": re.compile(r"\d{2}", re.ASCII), "version": re.compile(r"\d{6}", re.ASCII)}
_SETTINGS = (
    Setting("office", "code of our office (事業所番号, ten digits): files are sent to it, and by it"),
    Setting("kind", "kind of service of our office (サービス種類コード, two digits), such as 13"),
    Setting("version", "CSVバージョン of what we write, six digits", "202410"),
    Setting("host_key", "by SFTP: the server's public key, such as ssh-ed25519 AAAA...", ""),
    Setting("care_manager", "office to which the actuals of clients go of whom no file tells; empty: they wait", ""),
)


def open_connector(connection: Connection, secret: Mapping[str, str], client: httpx.Client, gate: Gate) -> Connector:
    """A connector; nothing is looked at yet. RejectedError if the address or a setting is missing or wrong."""
    given = {each.key: (connection.settings.get(each.key) or each.default or "").strip() for each in _SETTINGS}
    if wrong := next((key for key, pattern in _PATTERNS.items() if not pattern.fullmatch(given[key])), None):
        raise RejectedError("settings_missing", {"key": wrong})
    care_manager = given["care_manager"]
    if care_manager and not _OFFICE.fullmatch(care_manager):
        raise RejectedError("settings_missing", {"key": "care_manager"})
    place = _place(connection.base_url, secret, given["host_key"], client.timeout)
    return CareCsvConnector(
        Folder(place, IN, gate, STILL_SECONDS),
        Outbox(place, OUT, STATE),
        Office(given["office"], given["kind"], given["version"]),
        care_manager,
        client,
        lambda: datetime.now(JAPAN),
    )


def plans_of(connector: Connector, cursor: str | None) -> Iterator[PlanPage]:
    """What a connector's folder has of plans, as the contract says."""
    assert isinstance(connector, CareCsvConnector)  # the platform asks with one that it opened here
    return read_plans(connector.folder, connector.office.code, cursor)


def _place(url: str, secret: Mapping[str, str], host_key: str, timeout: httpx.Timeout) -> Place:
    """Where the folders are; a server has as much time as one that is called over HTTP. RejectedError if it is not said
    rightly, or what is needed to get there."""
    parts = urlsplit(url)
    path = unquote(parts.path)
    if parts.scheme == "file" and not parts.netloc and path.startswith("/"):
        return Local(Path(path))
    if parts.scheme != "sftp" or not parts.hostname:
        raise RejectedError("address_wrong")
    from partners.carecsv.sftp import Bounds, Login, Sftp, is_host_key, private_key

    login = Login(secret.get("user", ""), secret.get("password", ""), secret.get("private_key", ""))
    if not login.user or not (login.password or login.private_key):
        raise AuthenticationError("secret_missing")
    if login.private_key:
        private_key(login)
    if not is_host_key(host_key):
        raise RejectedError("settings_missing", {"key": "host_key"})
    usual = Bounds()
    bounds = Bounds(timeout.read or usual.total_seconds, timeout.connect or usual.connect_seconds)
    return Sftp(parts.hostname, parts.port or 22, path, login, host_key, bounds)


CARECSV = Partner(
    name="carecsv",
    title="Care CSV (ケアプランデータ連携)",
    reads=(Entity.CLIENT,),
    writes={Entity.VISIT: FILES, Entity.VISIT_RECORD: FILES},
    capability=Capability(Recovery.CLIENT_ID, has_version_check=False, is_incremental=True, proves_absence=NeverGone()),
    settings=_SETTINGS,
    secrets=(
        Setting("user", "by SFTP: as whom", ""),
        Setting("password", "by SFTP: of the user, or of the private key", ""),
        Setting("private_key", "by SFTP: as OpenSSH writes it, in place of a password", ""),
    ),
    limits=(),
    mapping_version="1",
    map=map_record,
    open=open_connector,
    endpoints=(FILES,),
    schemes=("file", "sftp"),
    leaves=f"that it is, in its client's file in {STATE}; nothing in {OUT}, where only what was done is told",
    read_plans=plans_of,
)
