"""The declaration of ORCA: the receipt computer of the Japan Medical Association, on premises and as WebORCA.

It offers neither a key nor a version nor an update. What is recovered is recovered by reading back, and what somebody
changed there is seen by comparing alone (docs/delivery.md). It serves a clinic's own people meanwhile, and publishes no
limits: one call at a time, at a pace that they do not feel.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import timedelta

import httpx

from partners.contract import TLS_SECRETS, Capability, Connection, Connector, Entity, Gate, Partner, Recovery, Setting
from partners.errors import RejectedError
from partners.orca.apis import ENDPOINTS
from partners.orca.assignment import AssignmentError, parse_assignments
from partners.orca.client import Options, OrcaConnector
from partners.orca.codes import code_row
from partners.orca.mapping import map_record
from partners.orca.reading import RangeError, parse_ranges
from partners.orca.server import Server, checked_base
from partners.orca.shown import SHOWN
from partners.orca.xml2 import Format

_SETTINGS = (
    Setting("api_prefix", "what comes before each path: /api at WebORCA, nothing at a classic server", ""),
    Setting("format", "how calls are spelled: xml, or json (from version 5)", "xml"),
    Setting("department", "code of the department (診療科) that visits are entered in, such as 01"),
    Setting(
        "default_doctor",
        "code of the doctor (ドクター) for visits by other staff, or by nobody yet: ORCA gives appointments to doctors "
        "alone; empty: such visits are not sent, and say so",
        "",
    ),
    Setting("doctors", "doctor, and department, for members of staff by their codes: 20001=10001, 20002=10002/02", ""),
    Setting("medical_content", "code of the medical content (診療内容) of visits; empty: ORCA's own first", "01"),
    Setting(
        "patient_numbers", "ranges of patient numbers that a full reading goes through, such as 1-5000, 20230001-", ""
    ),
    Setting("push_log", "whether the server keeps a log of what it told others, deletes too (WebORCA): yes, no", "no"),
    Setting("users", "whether our user may list the users (職員情報), with when they came and left: yes or no", "no"),
)
_SECRETS = (
    Setting("user", "user id, or WebORCA's API user; empty: a certificate alone", ""),
    Setting("password", "password, or WebORCA's API key", ""),
)


def open_connector(connection: Connection, secret: Mapping[str, str], client: httpx.Client, gate: Gate) -> Connector:
    """A connector; nothing is called yet. RejectedError if the address or a setting is missing or wrong."""
    given = connection.settings
    settings = {each.key: given.get(each.key) or each.default or "" for each in _SETTINGS}
    try:
        form = Format(settings["format"])
    except ValueError:
        raise RejectedError("settings_missing", {"key": "format"}) from None
    try:
        assignments = parse_assignments(settings["department"], settings["default_doctor"], settings["doctors"])
    except AssignmentError as error:
        raise RejectedError("settings_missing", {"key": str(error)}) from None
    try:
        ranges = parse_ranges(settings["patient_numbers"])
    except RangeError:
        raise RejectedError("settings_missing", {"key": "patient_numbers"}) from None
    has_log, has_users = (_is_yes(settings, key) for key in ("push_log", "users"))
    options = Options(assignments, settings["medical_content"], ranges, has_log, has_users)
    base = checked_base(connection.base_url, settings["api_prefix"])
    user, password = secret.get("user", "").strip(), secret.get("password", "")
    return OrcaConnector(Server(client, gate, base, user, password, form), options)


def _is_yes(settings: Mapping[str, str], key: str) -> bool:
    if settings[key] not in ("yes", "no"):
        raise RejectedError("settings_missing", {"key": key})
    return settings[key] == "yes"


ORCA = Partner(
    name="orca",
    title="ORCA (日医標準レセプトソフト)",
    reads=(Entity.CLIENT, Entity.STAFF),
    writes={Entity.VISIT: "appointments", Entity.VISIT_RECORD: "acceptances"},
    capability=Capability(Recovery.SEARCH, has_version_check=False, is_incremental=True, replaces=True),
    settings=_SETTINGS,
    secrets=(*_SECRETS, *TLS_SECRETS),
    limits=("tenant:120/60s", "tenant:concurrent=1"),
    mapping_version="1",
    map=map_record,
    open=open_connector,
    parallel=1,
    endpoints=ENDPOINTS,
    full_every=timedelta(days=7),  # a call a patient; the log and the list of changes tell the rest
    shown=SHOWN,
    code_row=code_row,
)
