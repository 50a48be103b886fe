"""Certificates of one connection: whom to trust at the other end, and what to show there.

A private key is never written down as it is: OpenSSL takes one from a file alone, so it gets a file that is encrypted
with a password of that moment, and removed at once.
"""

from __future__ import annotations

import base64
import re
import secrets
import ssl
import tempfile
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

import httpx
from cryptography import x509
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from cryptography.hazmat.primitives.serialization.pkcs12 import load_pkcs12

_KEY = re.compile(rb"-----BEGIN ([A-Z ]*PRIVATE KEY)-----.*?-----END \1-----", re.DOTALL)


class TlsError(ValueError):
    """A certificate that cannot be used. Its text is one sentence and quotes nothing of what was given."""


@dataclass(frozen=True)
class Tls:
    """What a connection was given; each may be empty."""

    ca: str = field(default="", repr=False)
    """PEM of the authorities to trust in place of the public ones."""
    certificate: str = field(default="", repr=False)
    """To be shown to the server, with its private key: PEM, or a PKCS#12 file in base64."""
    password: str = field(default="", repr=False)
    """Of the private key or the PKCS#12 file."""

    @property
    def is_plain(self) -> bool:
        """Whether there is nothing to do but trust the public authorities."""
        return not (self.ca or self.certificate)


def expires_at(tls: Tls) -> datetime | None:
    """When the certificate that is shown can no longer be, aware; None: none is. Raises TlsError."""
    return _identity(tls)[0].not_valid_after_utc if tls.certificate else None


def begins_at(tls: Tls) -> datetime:
    """When the certificate that is shown can first be, aware. Raises TlsError."""
    return _identity(tls)[0].not_valid_before_utc


def trusted_until(tls: Tls) -> datetime:
    """When the last of the authorities given can no longer be trusted, aware. Of those that `context` takes."""
    return max(each.not_valid_after_utc for each in x509.load_pem_x509_certificates(_bytes(tls.ca)))


@lru_cache(maxsize=256)
def context(tls: Tls) -> ssl.SSLContext:
    """The one context for these. Raises TlsError."""
    try:
        made = ssl.create_default_context(cadata=tls.ca) if tls.ca else httpx.create_ssl_context(trust_env=False)
    except (ssl.SSLError, ValueError, TypeError):  # the last one of letters that no PEM has
        raise TlsError("The CA certificate is no PEM certificate: give the authority's own file as it is") from None
    if tls.certificate:
        _show(made, tls)
    return made


def _show(made: ssl.SSLContext, tls: Tls) -> None:
    certificate, key, chain = _identity(tls)
    password = secrets.token_bytes(32).hex().encode()
    encrypted = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(password))
    listed = b"".join(each.public_bytes(Encoding.PEM) for each in (certificate, *chain))
    with tempfile.TemporaryDirectory(prefix="zest-tls-") as folder:  # for its owner alone
        file = Path(folder) / "identity.pem"
        file.write_bytes(encrypted + listed)
        try:
            made.load_cert_chain(file, password=password)
        except ssl.SSLError:
            raise TlsError("The client certificate is too weak to be used: have one issued by today's rules") from None


def _identity(tls: Tls) -> tuple[x509.Certificate, Any, list[x509.Certificate]]:
    """Certificate, private key and the certificates between it and its authority."""
    password = _bytes(tls.password) or None
    if tls.certificate.lstrip().startswith("-----BEGIN"):
        certificate, key, chain = _of_pem(_bytes(tls.certificate), password)
    else:
        certificate, key, chain = _of_pkcs12(tls.certificate, password)
    public = (Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    if certificate.public_key().public_bytes(*public) != key.public_key().public_bytes(*public):
        raise TlsError("The client certificate and the private key do not belong together: give those that do")
    return certificate, key, chain


def _bytes(text: str) -> bytes:
    """Half a letter too: such a text is wrong, and that is said of it as of any other."""
    return text.encode(errors="surrogatepass")


def _of_pem(text: bytes, password: bytes | None) -> tuple[x509.Certificate, Any, list[x509.Certificate]]:
    found = _KEY.search(text)
    if found is None:
        raise TlsError("The client certificate has no private key: put the key's PEM block beside it")
    try:
        certificate, *chain = x509.load_pem_x509_certificates(text)
    except ValueError:
        raise TlsError("The client certificate is no PEM certificate: give the file as it was issued") from None
    try:
        return certificate, load_pem_private_key(found[0], password), chain
    except (ValueError, TypeError):
        raise TlsError("The private key cannot be read: check client_certificate_password") from None


def _of_pkcs12(text: str, password: bytes | None) -> tuple[x509.Certificate, Any, list[x509.Certificate]]:
    try:
        content = base64.b64decode("".join(text.split()), validate=True)
    except ValueError:  # of base64, and of letters that it has not
        raise TlsError("The client certificate is neither PEM nor base64: encode the .p12 file with base64") from None
    try:
        held = load_pkcs12(content, password)
    except (ValueError, TypeError):
        raise TlsError(
            "The PKCS#12 file cannot be opened: check client_certificate_password, and that the file is whole"
        ) from None
    if held.cert is None or held.key is None:
        raise TlsError("The PKCS#12 file lacks the certificate or its private key: export it with both")
    return held.cert.certificate, held.key, [each.certificate for each in held.additional_certs]
