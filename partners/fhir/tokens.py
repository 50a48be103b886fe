"""Tokens that a FHIR server gives for a while (SMART App Launch 2.2, Backend Services).

We are known there by a client id and the public half of a key. Each token is asked for with an assertion that the
private half signs: for this one address, good for four minutes and once. What is asked for and what comes back goes
into no log and no error.

The assertion tells no time but its end: a server whose clock is behind ours would refuse one that is from the future.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlencode, urlsplit
from uuid import uuid4

import httpx
import jwt
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP384R1, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from partners.contract import Gate, Json, Token
from partners.errors import AuthenticationError, PartnerError, RejectedError
from partners.fhir import codes
from partners.wire import Answered, Exchange, Request, exchange

ENDPOINT = "token"
"""What the limits call what is asked here."""
PROTOCOL = "SMART Backend Services"
_CONFIGURATION = ".well-known/smart-configuration"
_ASSERTION_LASTS = timedelta(minutes=4)
"""At most five are allowed, by the server's clock; so ours may be a minute off either way."""
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_LASTS_UNLESS_TOLD = 60.0  # seconds; RFC 6749 4.2.2 leaves it out where it is told elsewhere
_LONGEST = 86400.0
_SMALLEST_RSA = 2048  # bits
_VALUE = re.compile(r"[\x21-\x7e]{1,16384}")
_READ, _WRITTEN = ("Patient", "Practitioner", "PractitionerRole"), ("Appointment", "Encounter")
SCOPES_V2 = " ".join([*(f"system/{kind}.rs" for kind in _READ), *(f"system/{kind}.crus" for kind in _WRITTEN)])
"""What we do, in the spelling of SMART's version 2: read and search, and of what we write create and update as well."""
SCOPES_V1 = " ".join(
    [*(f"system/{kind}.read" for kind in (*_READ, *_WRITTEN)), *(f"system/{kind}.write" for kind in _WRITTEN)]
)
"""The same in the spelling of version 1."""

# RFC 6749 5.2. What is not here is no answer of such a server: `_no_such_answer`.
_REFUSALS: Mapping[str, str] = {
    "invalid_client": "client_refused",
    "unauthorized_client": "client_refused",
    "invalid_grant": "client_refused",  # some say so of an assertion
    "invalid_scope": "scope_refused",
}


@dataclass(frozen=True)
class Key:
    """A private key, and how it signs."""

    private: RSAPrivateKey | EllipticCurvePrivateKey = field(repr=False)
    algorithm: str
    """RS384 or ES384."""
    key_id: str
    """By which the server knows its public half; empty: it is not told."""


@dataclass(frozen=True)
class Service:
    """We, as the server knows us."""

    client_id: str
    key: Key
    scopes: str
    """Separated by spaces."""
    token_endpoint: str = ""
    """Empty: the server tells it."""

    def ask(self, client: httpx.Client, gate: Gate, base: str) -> Token:
        """A new token of the server at `base`. Each call passes the gate. Raises PartnerError."""
        endpoint = _checked(self.token_endpoint or _told_endpoint(client, gate, base), base)
        form = {
            "grant_type": "client_credentials",
            "scope": self.scopes,
            "client_assertion_type": _ASSERTION_TYPE,
            "client_assertion": self._assertion(endpoint, datetime.now(UTC)),
        }
        headers = {"accept": "application/json", "content-type": "application/x-www-form-urlencoded"}
        request = Request("POST", endpoint, ENDPOINT, headers, content=urlencode(form).encode())
        return self._token_in(exchange(client, gate, request))

    def _assertion(self, endpoint: str, now: datetime) -> str:
        claims = {
            "iss": self.client_id,
            "sub": self.client_id,
            "aud": endpoint,
            "exp": int((now + _ASSERTION_LASTS).timestamp()),
            "jti": uuid4().hex,
        }
        named = {"kid": self.key.key_id} if self.key.key_id else {}
        return jwt.encode(claims, self.key.private, self.key.algorithm, headers=named)

    def _token_in(self, answer: Exchange) -> Token:
        if not isinstance(answer, Answered) or answer.status == 429 or answer.status >= 500:
            raise codes.failure(answer, ENDPOINT)
        told = codes.resource_in(answer) or {}
        if answer.status != 200:
            raise self._refusal(told.get("error"))
        value, kind = told.get("access_token"), told.get("token_type")
        if not (isinstance(value, str) and _VALUE.fullmatch(value)) or str(kind).lower() != "bearer":
            raise _no_such_answer()
        return Token(value, timedelta(seconds=_lasts(told)))

    def _refusal(self, error: object) -> PartnerError:
        match _REFUSALS.get(error) if isinstance(error, str) else None:
            case "client_refused":
                return AuthenticationError("client_refused", {"client": self.client_id})
            case "scope_refused":
                return AuthenticationError("scope_refused", {"scopes": self.scopes})
        return _no_such_answer()


def _no_such_answer() -> RejectedError:
    return RejectedError("not_this_protocol", {"protocol": PROTOCOL})


def read_key(text: str, key_id: str = "") -> Key:
    """The private key in PEM or as a JWK (also alone in a set), to be known as `key_id`, else as the JWK says.

    RSA of 2048 bits or more, or P-384. AuthenticationError, which quotes nothing of it, for all else.
    """
    try:
        told = _jwk(text) if text.lstrip().startswith("{") else {}
        private: Any = jwt.PyJWK(told).key if told else load_pem_private_key(text.encode(), None)
    except (ValueError, TypeError, KeyError, jwt.PyJWTError, UnsupportedAlgorithm):
        raise AuthenticationError("private_key_unusable") from None
    named = key_id or str(told.get("kid", ""))
    if isinstance(private, RSAPrivateKey) and private.key_size >= _SMALLEST_RSA:
        return Key(private, "RS384", named)
    if isinstance(private, EllipticCurvePrivateKey) and isinstance(private.curve, SECP384R1):
        return Key(private, "ES384", named)
    raise AuthenticationError("private_key_unusable")


def _jwk(text: str) -> Json:
    """As it is meant for signing: a key may say `RS256` of itself, or what it is used for."""
    told = json.loads(text)
    if isinstance(told.get("keys"), list) and len(told["keys"]) == 1:
        told = told["keys"][0]
    if not isinstance(told, dict):
        raise ValueError("no JWK")
    return {name: value for name, value in told.items() if name not in ("alg", "use", "key_ops")}


def _told_endpoint(client: httpx.Client, gate: Gate, base: str) -> str:
    """The token endpoint that the server tells of."""
    request = Request("GET", f"{base}/{_CONFIGURATION}", ENDPOINT, {"accept": "application/json"})
    answer = exchange(client, gate, request)
    if not isinstance(answer, Answered) or answer.status == 429 or answer.status >= 500:
        raise codes.failure(answer, ENDPOINT)
    endpoint = (codes.resource_in(answer) or {}).get("token_endpoint") if answer.status == 200 else None
    if not isinstance(endpoint, str):
        raise _no_such_answer()
    return endpoint


def _checked(endpoint: str, base: str) -> str:
    """The address of the token endpoint. It may be another host's: an assertion is good for no other address.

    RejectedError unless it is https, or http as the server itself.
    """
    try:
        parts = urlsplit(endpoint)
        is_right = bool(parts.hostname) and "@" not in parts.netloc and not parts.fragment
    except ValueError:
        is_right = False
    if not is_right or parts.scheme not in ("https", urlsplit(base).scheme):
        raise RejectedError("address_wrong", {"field": "token_endpoint"})
    return endpoint


def _lasts(told: Json) -> float:
    """Seconds, as told; some spell the number as a text."""
    try:
        seconds = float(told.get("expires_in", _LASTS_UNLESS_TOLD))
    except (TypeError, ValueError, OverflowError):
        seconds = _LASTS_UNLESS_TOLD
    return min(max(seconds, 0.0), _LONGEST) if math.isfinite(seconds) else _LASTS_UNLESS_TOLD
