"""The declaration of SmartHR: an HR system whose crews (従業員) are the tenant's staff. It is only read."""

from __future__ import annotations

from collections.abc import Mapping

import httpx

from partners.contract import TLS_SECRETS, Capability, Connection, Connector, Entity, Gate, Partner, Recovery, Setting
from partners.errors import AuthenticationError, RejectedError
from partners.smarthr.client import SmartHrConnector
from partners.smarthr.codes import code_row
from partners.smarthr.mapping import BUSINESS, LEGAL, NAMES, QUALIFICATIONS, map_record
from partners.smarthr.server import CREWS, Server, checked_base
from partners.wire import is_token

_SETTINGS = (
    Setting(
        NAMES,
        "which names staff have: business, the business name (ビジネスネーム) where there is one; or legal",
        BUSINESS,
    ),
    Setting(
        QUALIFICATIONS,
        "names of positions (役職) and jobs (職種, 業務内容) that are qualifications, such as 看護師,理学療法士; "
        "the first one that somebody has is taken; empty: none is",
        "",
    ),
)


def open_connector(connection: Connection, secret: Mapping[str, str], client: httpx.Client, gate: Gate) -> Connector:
    """A connector; nothing is called yet. RejectedError if the address, the token or a setting is missing or wrong."""
    if (connection.settings.get(NAMES) or BUSINESS) not in (BUSINESS, LEGAL):
        raise RejectedError("settings_missing", {"key": NAMES})
    token = secret.get("token", "").strip()
    if not token:
        raise RejectedError("secret_missing")
    if not is_token(token):
        raise AuthenticationError("credential_refused")
    return SmartHrConnector(Server(client, gate, checked_base(connection.base_url), token))


SMARTHR = Partner(
    name="smarthr",
    title="SmartHR",
    reads=(Entity.STAFF,),
    writes={},
    capability=Capability(Recovery.NONE, has_version_check=False, is_incremental=True),
    settings=_SETTINGS,
    secrets=(Setting("token", "access token (アクセストークン)"), *TLS_SECRETS),
    # Two of a token, and one of the subdomain, which its other tokens share.
    limits=("tenant:5000/1h", "tenant:10/1s", "tenant:50000/60s"),
    mapping_version="1",
    map=map_record,
    open=open_connector,
    parallel=1,
    endpoints=(CREWS,),
    code_row=code_row,
)
