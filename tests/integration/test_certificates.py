"""Certificates of a connection: an authority of the partner's own, and ours as PEM or PKCS#12, also a wrong one."""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from textwrap import wrap

import httpx
import pytest
from conftest import NewTenant, Tenant
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID
from evidence import is_told
from issued import PASSWORD, YEAR, Issued, issue
from test_wire_faults import Line, answering, partner

from partners.contract import TLS_SECRETS, Entity
from partners.errors import AuthenticationError
from partners.fhir.partner import FHIR
from resources.http import Http
from resources.tls import Tls, TlsError, context, expires_at
from zest_pipelines.cli.connections import checked_secret
from zest_pipelines.cli.options import InputError
from zest_pipelines.flows.check import check
from zest_pipelines.flows.land import land

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


@pytest.fixture(scope="module")
def authority() -> Issued:
    return issue()


@pytest.fixture(scope="module")
def ours(authority: Issued) -> Issued:
    return issue(authority)


@pytest.fixture(scope="module")
def demanding(authority: Issued, tmp_path_factory: pytest.TempPathFactory) -> ssl.SSLContext:
    """Of a partner that is known to its own authority alone, and asks for a certificate of it."""
    folder, shown = tmp_path_factory.mktemp("certificates"), issue(authority)
    (folder / "chain.pem").write_text(shown.pem + shown.key_pem())
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    made.load_cert_chain(folder / "chain.pem")
    made.load_verify_locations(cadata=authority.pem)
    made.verify_mode = ssl.CERT_REQUIRED
    return made


FORMS: dict[str, Callable[[Issued], tuple[str, str]]] = {
    "PEM": lambda issued: (issued.pem + issued.key_pem(), ""),
    "PEM, key first and with a password": lambda issued: (issued.key_pem(PASSWORD) + issued.pem, PASSWORD),
    "PKCS#12": lambda issued: (issued.pkcs12(), PASSWORD),
    "PKCS#12 in lines": lambda issued: ("\n".join(wrap(issued.pkcs12(), 76)), PASSWORD),
}


@pytest.mark.parametrize("form", FORMS)
def test_a_partner_that_asks_for_a_certificate_gets_ours(
    form: str, authority: Issued, ours: Issued, demanding: ssl.SSLContext
) -> None:
    tls = Tls(authority.pem, *FORMS[form](ours))
    with partner(answering(OK), demanding) as there, Http(total_seconds=5).client(tls) as client:
        assert client.get(there.url).text == "ok"
    assert expires_at(tls) == ours.certificate.not_valid_after_utc


@pytest.mark.parametrize("lacks", ["certificate", "ca"])
def test_without_the_certificate_or_the_authority_nothing_is_sent(
    lacks: str, authority: Issued, ours: Issued, demanding: ssl.SSLContext
) -> None:
    tls = replace(Tls(authority.pem, *FORMS["PKCS#12"](ours)), **{lacks: ""})
    with (
        partner(answering(OK), demanding) as there,
        Http(total_seconds=5).client(tls) as client,
        pytest.raises(httpx.TransportError),
    ):
        client.get(there.url)
    assert there.requests == []


def weak() -> str:
    """PEM of a certificate with a key of 1024 bits."""
    key = rsa.generate_private_key(65537, 1024)
    name, now = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "under test")]), datetime.now(UTC)
    built = x509.CertificateBuilder().subject_name(name).issuer_name(name).public_key(key.public_key())
    dated = built.serial_number(1).not_valid_before(now).not_valid_after(now + YEAR)
    return Issued(dated.sign(key, hashes.SHA256()), key).pem + Issued(dated.sign(key, hashes.SHA256()), key).key_pem()


BAD: dict[str, tuple[Callable[[Issued], tuple[str, str]], str]] = {
    "another password": (lambda issued: (issued.pkcs12(), "wrong"), "check client_certificate_password"),
    "no base64": (lambda issued: ("%%%", ""), "neither PEM nor base64"),
    "wide letters": (lambda issued: ("ＭＩＩ", ""), "neither PEM nor base64"),
    "a PEM block with wide letters": (lambda issued: (issued.key_pem() + "ＭＩＩ", ""), "no PEM certificate"),
    "half a letter in the password": (lambda issued: (issued.pkcs12(), "\udc80"), "check client_certificate_password"),
    "a weak key": (lambda issued: (weak(), ""), "too weak"),
    "half a file": (lambda issued: (issued.pkcs12()[:400], PASSWORD), "cannot be opened"),
    "no key": (lambda issued: (issued.pem, ""), "has no private key"),
    "the key's password": (lambda issued: (issued.pem + issued.key_pem(PASSWORD), ""), "private key cannot be read"),
    "somebody else's key": (lambda issued: (issued.pem + issue().key_pem(), ""), "do not belong together"),
    "a key alone": (lambda issued: (issued.key_pem(), ""), "no PEM certificate"),
}


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_used_is_refused_in_words_that_quote_nothing(case: str, ours: Issued) -> None:
    given, words = BAD[case]
    certificate, password = given(ours)
    with pytest.raises(TlsError, match=words) as caught:
        context(Tls("", certificate, password))
    secret = {"token": "t", "client_certificate": certificate, "client_certificate_password": password}
    with pytest.raises(InputError, match=words):
        checked_secret(FHIR, secret)
    assert certificate[:40] not in str(caught.value)
    assert PASSWORD not in repr(Tls("", certificate, PASSWORD))


def test_an_authority_that_is_none_and_an_expired_certificate_are_refused_when_they_are_given(
    authority: Issued,
) -> None:
    for none in ("nothing", "ＭＩＩ"):
        with pytest.raises(InputError, match="no PEM certificate"):
            checked_secret(FHIR, {"ca_certificate": none})
    over = timedelta(days=-1)
    with pytest.raises(InputError, match="The CA certificate has expired"):
        checked_secret(FHIR, {"ca_certificate": issue(lasts=over).pem})
    for dates, word in (({"lasts": over}, "has expired"), ({"begins": -over}, "is not valid before")):
        certificate, password = FORMS["PKCS#12"](issue(authority, **dates))
        with pytest.raises(InputError, match=word):
            checked_secret(FHIR, {"client_certificate": certificate, "client_certificate_password": password})


def test_no_key_is_left_on_the_disk(ours: Issued, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    seen: list[bytes] = []
    real = ssl.SSLContext.load_cert_chain

    def noted(made: ssl.SSLContext, file: Path, *args: object, **named: object) -> None:
        seen.append(file.read_bytes())
        real(made, file, *args, **named)  # type: ignore[arg-type]

    monkeypatch.setattr(ssl.SSLContext, "load_cert_chain", noted)
    context.__wrapped__(Tls("", *FORMS["PEM"](ours)))
    assert list(tmp_path.iterdir()) == []
    assert b"ENCRYPTED PRIVATE KEY" in seen[0]


# --- A connection -----------------------------------------------------------------------------------------------------


def connected(new_tenant: NewTenant, name: str, url: str, authority: Issued, shown: Issued) -> Tenant:
    """A tenant at that address, with these certificates."""
    values = (authority.pem, *FORMS["PKCS#12"](shown))
    secret = {"token": "t"} | {each.key: value for each, value in zip(TLS_SECRETS, values, strict=True)}
    return new_tenant(None, name, base_url=url, secret=secret)


def patients(line: Line) -> None:
    """An empty list, or the server's description."""
    asked = line.read()
    kind = {"resourceType": "Bundle", "type": "searchset", "total": 0}
    if b"/metadata" in asked.split(b"\r\n", 1)[0]:
        kind = {"resourceType": "CapabilityStatement", "fhirVersion": "4.0.1"}
    body = json.dumps(kind).encode()
    head = f"HTTP/1.1 200 OK\r\nContent-Type: application/fhir+json\r\nContent-Length: {len(body)}\r\n\r\n"
    line.conn.sendall(head.encode() + body)


def test_a_connection_reads_with_its_certificate_and_is_told_sixty_days_before_it_ends(
    new_tenant: NewTenant, authority: Issued, demanding: ssl.SSLContext
) -> None:
    for name, lasts, is_ending in (("sakura", YEAR, False), ("momiji", timedelta(days=59), True)):
        shown = issue(authority, lasts)
        with partner(patients, demanding) as there:
            tenant = connected(new_tenant, name, there.url, authority, shown)
            assert land(tenant.services, tenant.partner, name, Entity.CLIENT).is_certified
            found = check(tenant.services, tenant.partner, name)
        assert (found.certificate_until, found.is_ending) == (shown.certificate.not_valid_after_utc, is_ending)


def test_an_expired_certificate_costs_no_call_and_says_what_to_do(
    new_tenant: NewTenant, authority: Issued, demanding: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    with partner(patients, demanding) as there:
        tenant = connected(new_tenant, "sakura", there.url, authority, issue(authority, timedelta(days=-1)))
        report = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
        with pytest.raises(AuthenticationError, match="client_certificate_expired") as caught:
            check(tenant.services, tenant.partner, tenant.name)
    assert (report.state, report.reason, there.lines) == ("failed", "client_certificate_expired", [])
    is_told("client_certificate_expired", caught.value.params)
    assert PASSWORD not in caplog.text


def test_a_certificate_that_cannot_be_read_any_more_costs_no_call(
    new_tenant: NewTenant, authority: Issued, ours: Issued, demanding: ssl.SSLContext
) -> None:
    with partner(patients, demanding) as there:
        secret = {"token": "t", "ca_certificate": authority.pem, "client_certificate": ours.pem}
        tenant = new_tenant(None, "sakura", base_url=there.url, secret=secret)
        report = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    assert (report.state, report.reason, there.lines) == ("failed", "certificate_unusable", [])
    is_told("certificate_unusable", report.params)


def test_a_partner_whose_authority_is_not_ours_is_not_read(
    new_tenant: NewTenant, ours: Issued, demanding: ssl.SSLContext
) -> None:
    with partner(patients, demanding) as there:
        tenant = connected(new_tenant, "sakura", there.url, issue(), ours)
        report = land(tenant.services, tenant.partner, tenant.name, Entity.CLIENT)
    assert (report.state, report.reason, there.requests) == ("failed", "partner_certificate_invalid", [])
    is_told("partner_certificate_invalid", report.params)
