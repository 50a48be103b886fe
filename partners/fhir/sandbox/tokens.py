"""The desk that gives tokens (SMART App Launch 2.2, Backend Services; RFC 7523), and keeps count.

It is strict where the specification is: who asks, for which address, signed by which key, once, and for five minutes at
most by its own clock.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from typing import Any

import jwt

from partners.fhir.sandbox.config import SandboxConfig, Smart
from partners.fhir.sandbox.message import Answer, FhirRequest

_TOKEN = ("token",)
_CONFIGURATION = (".well-known", "smart-configuration")
_ALGORITHMS = ["RS384", "ES384"]
_LONGEST = 300.0  # seconds
_ASSERTION_TYPE = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
_NEEDED = ["iss", "sub", "aud", "exp", "jti"]


class _RefusedError(Exception):
    """RFC 6749 5.2: the error's code."""


def is_for_desk(request: FhirRequest, config: SandboxConfig) -> bool:
    """Whether the desk answers such a request, and needs no token for that."""
    asked = (request.method, request.segments)
    return config.smart is not None and asked in (("POST", _TOKEN), ("GET", _CONFIGURATION))


class TokenDesk:
    """Who was given what. All calls come from one event loop."""

    def __init__(self) -> None:
        self.asked = 0
        """How often a token was asked for."""
        self.given = 0
        self._good_until: dict[str, float] = {}
        """Monotonic, by token."""
        self._assertions: set[str] = set()
        """Ids of those that were used."""

    def has_given(self, token: str) -> bool:
        """Whether it is a token of ours that is good now."""
        return time.monotonic() < self._good_until.get(token, 0.0)

    def revoke(self) -> None:
        """Let none count that was given so far."""
        self._good_until.clear()

    def answer(self, request: FhirRequest, config: SandboxConfig) -> Answer:
        """The answer to what is for the desk."""
        smart, address = config.smart, f"{request.base}/token"
        assert smart is not None
        if request.segments == _CONFIGURATION:
            return _json(200, _configuration(address))
        self.asked += 1
        try:
            self._check(request.form, smart, address)
        except _RefusedError as refused:
            return _json(400, {"error": str(refused), "error_description": request.form.get("client_assertion", "")})
        self.given += 1
        token = secrets.token_urlsafe(24)
        self._good_until[token] = time.monotonic() + smart.seconds
        told = {"access_token": token, "token_type": "bearer", "expires_in": smart.seconds}
        return _json(200, {**told, "scope": request.form["scope"]})

    def _check(self, form: Mapping[str, str], smart: Smart, address: str) -> None:
        if form.get("grant_type") != "client_credentials":
            raise _RefusedError("unsupported_grant_type")
        if form.get("client_assertion_type") != _ASSERTION_TYPE or not form.get("scope"):
            raise _RefusedError("invalid_request")
        try:
            claims = _claims(form.get("client_assertion", ""), smart, address)
        except jwt.PyJWTError:
            raise _RefusedError("invalid_client") from None
        left = claims["exp"] - (time.time() + smart.clock_ahead)
        if not 0 < left <= _LONGEST or claims["sub"] != smart.client_id or claims["jti"] in self._assertions:
            raise _RefusedError("invalid_client")
        self._assertions.add(claims["jti"])
        if smart.scopes and not set(form["scope"].split()) <= set(smart.scopes.split()):
            raise _RefusedError("invalid_scope")


def _claims(assertion: str, smart: Smart, address: str) -> dict[str, Any]:
    """What is said and signed. jwt.PyJWTError if it is not, or not by who should."""
    key = smart.keys.get(jwt.get_unverified_header(assertion).get("kid", ""))
    if key is None:
        raise jwt.InvalidKeyError
    claims: dict[str, Any] = jwt.decode(
        assertion,
        key,
        _ALGORITHMS,
        audience=address,
        issuer=smart.client_id,
        options={"require": _NEEDED, "verify_exp": False},  # which is looked at by our own clock
    )
    return claims


def _configuration(address: str) -> dict[str, Any]:
    return {
        "token_endpoint": address,
        "grant_types_supported": ["client_credentials"],
        "token_endpoint_auth_methods_supported": ["private_key_jwt"],
        "token_endpoint_auth_signing_alg_values_supported": _ALGORITHMS,
        "capabilities": ["client-confidential-asymmetric", "permission-v1", "permission-v2"],
    }


def _json(status: int, body: dict[str, Any]) -> Answer:
    return Answer(status, body, (("cache-control", "no-store"),), content_type="application/json")
