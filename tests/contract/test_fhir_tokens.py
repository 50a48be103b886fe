"""How a token is asked for (SMART Backend Services): the keys that may sign, what is signed, what is answered."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from typing import Any

import httpx
import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from evidence import is_told
from fhir_bench import SETTINGS, Answer, NotingGate, fhir, scripted_server, searchset

from partners.contract import Connection, Connector, Entity
from partners.errors import AuthenticationError, PartnerError, RejectedError, RetryableError
from partners.fhir.partner import FHIR
from partners.fhir.tokens import SCOPES_V1, SCOPES_V2, Service, read_key
from resources.http import Http

P384, RSA = ec.generate_private_key(ec.SECP384R1()), rsa.generate_private_key(65537, 2048)
Private = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey | ed25519.Ed25519PrivateKey


def pem(key: Private, how: PrivateFormat = PrivateFormat.PKCS8, password: bytes = b"") -> str:
    locked = BestAvailableEncryption(password) if password else NoEncryption()
    return key.private_bytes(Encoding.PEM, how, locked).decode()


def jwk(key: Any, **besides: Any) -> dict[str, Any]:
    algorithm = jwt.algorithms.RSAAlgorithm if isinstance(key, rsa.RSAPrivateKey) else jwt.algorithms.ECAlgorithm
    return {**algorithm.to_jwk(key, as_dict=True), **besides}


GOOD: dict[str, tuple[str, str, str]] = {
    "PEM of P-384": (pem(P384), "ES384", ""),
    "PEM of RSA": (pem(RSA), "RS384", ""),
    "as OpenSSL wrote it before": (pem(RSA, PrivateFormat.TraditionalOpenSSL), "RS384", ""),
    "JWK with its id": (json.dumps(jwk(P384, kid="ours", use="sig")), "ES384", "ours"),
    "JWK that says another algorithm": (json.dumps(jwk(RSA, alg="RS256", key_ops=["sign"])), "RS384", ""),
    "a set of one": (json.dumps({"keys": [jwk(RSA, kid="ours")]}), "RS384", "ours"),
}
BAD: dict[str, str] = {
    "nothing of the kind": "a key",
    "a password": pem(P384, password=b"secret"),
    "the public half": P384.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo).decode(),
    "the public half as JWK": json.dumps(jwk(P384.public_key())),
    "another curve": pem(ec.generate_private_key(ec.SECP256R1())),
    "another kind": pem(ed25519.Ed25519PrivateKey.generate()),
    "a weak key": pem(rsa.generate_private_key(65537, 1024)),
    "a secret that both know": json.dumps({"kty": "oct", "k": "c2VjcmV0"}),
    "no kind": "{}",
    "half of a JWK": json.dumps({"kty": "EC", "crv": "P-384", "d": "AAAA"}),
    "two keys": json.dumps({"keys": [jwk(P384), jwk(RSA)]}),
    "a key that is a list": json.dumps({"keys": [[]]}),
    "cut off": json.dumps(jwk(P384))[:80],
    "wide letters": "ＭＩＩ",
    "half a letter": "\udc80",
}


@pytest.mark.parametrize("form", GOOD)
def test_a_key_is_taken_in_each_form(form: str) -> None:
    text, algorithm, key_id = GOOD[form]
    key = read_key(text)
    assert (key.algorithm, key.key_id) == (algorithm, key_id)
    assert read_key(text, "named").key_id == "named"
    assert repr(key) == f"Key(algorithm='{algorithm}', key_id='{key_id}')"


@pytest.mark.parametrize("case", BAD)
def test_a_key_that_cannot_sign_is_refused_in_words_that_quote_nothing(case: str) -> None:
    with pytest.raises(AuthenticationError) as caught:
        read_key(BAD[case])
    assert (str(caught.value), caught.value.params, caught.value.__cause__) == ("private_key_unusable", {}, None)
    is_told("private_key_unusable", caught.value.params)


@pytest.mark.parametrize(("missing", "given"), [("private_key", "client_id"), ("client_id", "private_key")])
def test_half_of_what_is_needed_is_told_by_the_other_half(missing: str, given: str) -> None:
    secret = {"client_id": "us", "private_key": pem(P384)}
    with pytest.raises(RejectedError) as caught:
        opened("http://127.0.0.1:1", {given: secret[given]})
    assert (caught.value.reason, caught.value.params) == ("settings_missing", {"key": missing})


def opened(url: str, secret: Mapping[str, str], gate: Any = None, **settings: str) -> Connector:
    connection = Connection("hidamari", "fhir", url, SETTINGS | settings)
    return FHIR.open(connection, secret, Http(total_seconds=2).client(), gate or NotingGate())


@pytest.mark.parametrize("key", [P384, RSA])
def test_what_is_signed_is_good_for_one_address_once_and_for_less_than_five_minutes(key: Private) -> None:
    forms: list[dict[str, str]] = []

    def answer(request: httpx.Request) -> httpx.Response:
        forms.append(dict(httpx.QueryParams(request.content.decode())))
        return httpx.Response(200, json={"access_token": "t", "token_type": "Bearer", "expires_in": 60})

    service = Service("us", read_key(pem(key), "first"), SCOPES_V2, "https://elsewhere.example/token")
    with httpx.Client(transport=httpx.MockTransport(answer)) as client:
        for _ in range(2):
            service.ask(client, NotingGate(), "https://records.example/fhir")
    used = set()
    for form in forms:
        assertion = form.pop("client_assertion")
        assert form == {
            "grant_type": "client_credentials",
            "scope": SCOPES_V2,
            "client_assertion_type": "urn:ietf:params:oauth:client-assertion-type:jwt-bearer",
        }
        algorithm = read_key(pem(key)).algorithm
        assert jwt.get_unverified_header(assertion) == {"alg": algorithm, "kid": "first", "typ": "JWT"}
        claims = jwt.decode(assertion, key.public_key(), [algorithm], audience="https://elsewhere.example/token")  # type: ignore[arg-type]
        used.add(claims.pop("jti"))
        assert 230 <= claims.pop("exp") - time.time() <= 240
        assert claims == {"iss": "us", "sub": "us", "aud": "https://elsewhere.example/token"}
    assert len(used) == 2


def test_the_older_spelling_of_scopes_is_a_setting() -> None:
    secret = {"client_id": "us", "private_key": pem(P384)}
    asked = [vars(opened("http://x", secret, scopes=each))["_server"].service.scopes for each in ("", "v1", "mine")]
    assert asked == [SCOPES_V2, SCOPES_V1, "mine"]
    assert "system/Patient.rs " in SCOPES_V2
    assert SCOPES_V1.endswith("system/Appointment.write system/Encounter.write")


JSON = {"content-type": "application/json"}
ENDPOINT = '{"token_endpoint": "http://127.0.0.1:1/token"}'
CONFIGURATIONS: dict[str, tuple[Answer, type[PartnerError], str]] = {
    "none": ((404, {}, b""), RejectedError, "not_this_protocol"),
    "a web page": ((200, {"content-type": "text/html"}, b"<html>"), RejectedError, "not_this_protocol"),
    "without the address": ((200, JSON, b"{}"), RejectedError, "not_this_protocol"),
    "no address": ((200, JSON, b'{"token_endpoint": 1}'), RejectedError, "not_this_protocol"),
    "an address with a user": ((200, JSON, b'{"token_endpoint": "https://a@b/"}'), RejectedError, "address_wrong"),
    "another protocol": ((200, JSON, b'{"token_endpoint": "ftp://b/"}'), RejectedError, "address_wrong"),
    "a broken address": ((200, JSON, b'{"token_endpoint": "https://[/"}'), RejectedError, "address_wrong"),
    "nobody there": ((200, JSON, ENDPOINT.encode()), RetryableError, "partner_unreachable"),
    "too many calls": ((429, {"retry-after": "7"}, b""), RetryableError, "partner_busy"),
    "out of order": ((500, {}, b""), RetryableError, "partner_failed"),
}


@pytest.mark.parametrize("case", CONFIGURATIONS)
def test_a_server_that_does_not_say_who_gives_tokens(case: str) -> None:
    told, kind, reason = CONFIGURATIONS[case]
    with scripted_server(lambda _: told) as server:
        connector = opened(server.url, {"client_id": "us", "private_key": pem(P384)})
        with pytest.raises(kind) as caught:
            connector.fetch(Entity.CLIENT, "1")
        connector.close()
    assert caught.value.reason == reason
    assert [path for path, _ in server.seen] == ["/.well-known/smart-configuration"]


def test_a_server_behind_https_cannot_send_the_assertion_in_the_open() -> None:
    service = Service("us", read_key(pem(P384)), SCOPES_V2, "http://elsewhere.example/token")
    with httpx.Client() as client, pytest.raises(RejectedError) as caught:
        service.ask(client, NotingGate(), "https://records.example/fhir")
    assert caught.value.params == {"field": "token_endpoint"}


ANSWERS: dict[str, tuple[int, Any, str]] = {
    "an unknown client": (400, {"error": "invalid_client"}, "client_refused"),
    "the same, as RFC 6749 has it": (401, {"error": "invalid_client"}, "client_refused"),
    "a client without the right": (400, {"error": "unauthorized_client"}, "client_refused"),
    "a scope that is not granted": (400, {"error": "invalid_scope"}, "scope_refused"),
    "a request that it does not know": (400, {"error": "invalid_request"}, "not_this_protocol"),
    "an error that is none": (400, {"error": ["invalid_client"]}, "not_this_protocol"),
    "no word": (403, None, "not_this_protocol"),
    "no token": (200, {"token_type": "bearer"}, "not_this_protocol"),
    "a token that cannot be shown": (200, {"access_token": "a\nb", "token_type": "bearer"}, "not_this_protocol"),
    "another kind of token": (200, {"access_token": "a", "token_type": "mac"}, "not_this_protocol"),
    "out of order": (503, None, "partner_maintenance"),
}


def answered(status: int, body: Any) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, json=body)


@pytest.mark.parametrize("case", ANSWERS)
def test_what_is_said_instead_of_a_token(case: str) -> None:
    status, body, reason = ANSWERS[case]
    service = Service("us", read_key(pem(P384)), SCOPES_V2, "https://x/token")
    with (
        httpx.Client(transport=httpx.MockTransport(answered(status, body))) as client,
        pytest.raises(PartnerError) as caught,
    ):
        service.ask(client, NotingGate(), "https://x")
    assert caught.value.reason == reason


@pytest.mark.parametrize(
    ("told", "seconds"),
    [
        (300, 300),
        ("300", 300),
        (1e9, 86400),
        (None, 60),
        ("soon", 60),
        (-5, 0),
        ("inf", 60),
        ("nan", 60),
        pytest.param(10**400, 60, id="beyond a double"),
    ],
)
def test_how_long_a_token_lasts_is_told_in_many_ways(told: Any, seconds: float) -> None:
    body = {"access_token": "secret", "token_type": "bearer", "expires_in": told}
    service = Service("us", read_key(pem(P384)), SCOPES_V2, "https://x/token")
    with httpx.Client(transport=httpx.MockTransport(answered(200, body))) as client:
        token = service.ask(client, NotingGate(), "https://x")
    assert token.lasts.total_seconds() == seconds
    assert "secret" not in repr(token)


def test_what_the_server_is_can_be_asked_without_a_token() -> None:
    def answer(path: str) -> Answer:
        if path.startswith("/metadata"):
            return fhir({"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"})
        return (404, {}, b"") if "smart" in path else searchset()

    gate = NotingGate()
    with scripted_server(answer) as server:
        connector = opened(server.url, {"client_id": "us", "private_key": pem(P384)}, gate)
        with pytest.raises(RejectedError) as caught:
            connector.check()
        connector.close()
    assert caught.value.params == {"protocol": "SMART Backend Services"}
    assert gate.admitted == ["metadata", "token"]
