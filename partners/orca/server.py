"""An ORCA as one connection sees it: its address, its credential, and the calls that there are.

Every call goes through the shared `wire`, and so past the gate. ORCA serves the clinic's own people at the same time,
so one call is made after another, and nothing is opened that would lock a terminal (the APIs of version 3 do).
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import httpx

from partners.contract import Gate, Json
from partners.errors import RejectedError
from partners.orca import codes, xml2
from partners.orca.apis import CALLS, Api
from partners.orca.xml2 import Fields, Format
from partners.wire import Answered, Exchange, Request, exchange


@dataclass(frozen=True)
class Server:
    """One ORCA, asked as one of its users."""

    client: httpx.Client = field(repr=False)
    gate: Gate = field(repr=False)
    base: str = field(repr=False)
    """As `checked_base` gives it, with the prefix."""
    user: str = field(default="", repr=False)
    """Empty: none is shown."""
    password: str = field(default="", repr=False)
    form: Format = Format.XML

    def ask(self, api: Api, fields: Fields | None = None, query: Mapping[str, str] | None = None) -> Exchange:
        """Make one call. Its texts must be sendable."""
        call = CALLS[api]
        form = Format.JSON if api is Api.EVENTS else self.form  # the log is told in JSON alone
        params = dict(query or {})
        if self.form is Format.JSON and api is not Api.EVENTS:
            params["format"] = "json"
        headers = {"accept": f"application/{form}"}
        if self.user:
            pair = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
            headers["authorization"] = f"Basic {pair}"
        content = None
        if call.request:
            content = xml2.spelled(call.request, fields or {}, form)
            headers["content-type"] = f"application/{form}"
        method = "POST" if call.request else "GET"
        request = Request(method, f"{self.base}/{call.path}", call.endpoint, headers, params, content)
        return exchange(self.client, self.gate, request)

    def read(self, api: Api, fields: Fields | None = None, query: Mapping[str, str] | None = None) -> Json:
        """The fields of an answer that is good, has no rows or has more than fit; `codes` tells which.

        Raises PartnerError.
        """
        answer = self.ask(api, fields, query)
        told = xml2.read(answer) if isinstance(answer, Answered) and answer.status == 200 else None
        if told is None or not codes.is_readable(api, xml2.text(told, "Api_Result")):
            raise codes.failure(api, answer)
        return told


def checked_base(address: str, prefix: str) -> str:
    """A connection's address with the prefix, without a slash at its end. RejectedError unless it is plain http(s).

    A user, a query or a fragment in it is refused: credentials belong into the vault, the rest means nothing.
    """
    base = address.strip().rstrip("/")
    try:
        parts = urlsplit(base)
        is_plain = parts.scheme in ("http", "https") and parts.hostname and "@" not in parts.netloc and parts.port != 0
    except ValueError:
        is_plain = False
    if not is_plain or parts.query or parts.fragment:
        raise RejectedError("address_wrong")
    return "/".join(part for part in (base, prefix.strip().strip("/")) if part)
