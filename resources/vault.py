"""Partner credentials, encrypted with a key that is not in the database.

A copied database must not open a tenant's partner, and a row copied to another connection must not either:
tenant and partner are sealed in with the credential and compared when it is opened. No error quotes a
credential, a key or a token.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from resources.private_files import read_private, write_private

KEY_VARIABLE = "ZEST_VAULT_KEY"


class VaultError(Exception):
    """A credential cannot be opened; the message says what to do and holds no secret."""


class Vault:
    """Seals and opens credentials. The first key seals; every key opens, so that keys can be changed."""

    def __init__(self, keys: Sequence[str]) -> None:
        try:
            self._ciphers = MultiFernet([Fernet(key) for key in keys])
        except ValueError:
            raise VaultError(
                "A vault key is not 32 bytes in URL-safe base64: restore vault.key from its backup"
            ) from None

    @classmethod
    def from_file(cls, path: Path, environ: Mapping[str, str] = os.environ) -> Vault:
        """The vault whose keys stand at `path`, one a line, or in ZEST_VAULT_KEY, which goes first.

        Raises VaultError where there is neither, PrivateFileError if others may read the file.
        """
        if given := environ.get(KEY_VARIABLE, "").split():
            return cls(given)
        try:
            keys = read_private(path).split()
        except FileNotFoundError:
            raise VaultError(
                f"There is no vault key at {path}: restore it from its backup, set {KEY_VARIABLE}, "
                "or run `zest init` if no credential has been stored yet"
            ) from None
        if not keys:
            raise VaultError(f"{path} is empty: restore the vault's key from its backup")
        return cls(keys)

    @classmethod
    def create_file(cls, path: Path) -> Vault:
        """Make a new key at `path` (mode 0600). Raises VaultError if one is there: stored rows need it."""
        if path.exists():
            raise VaultError(f"{path} is there already and the stored credentials need it: nothing was written")
        key = Fernet.generate_key().decode()
        write_private(path, key + "\n")
        return cls([key])

    def encrypt(self, credential: Mapping[str, str], *, tenant: str, partner: str) -> bytes:
        """Seal one connection's credential. The answer is ASCII, safe in a text or bytea column."""
        sealed = {"tenant": tenant, "partner": partner, "credential": dict(credential)}
        return self._ciphers.encrypt(json.dumps(sealed).encode())

    def decrypt(self, token: bytes, *, tenant: str, partner: str) -> dict[str, str]:
        """Open what `encrypt` sealed for this very tenant and partner. Raises VaultError for all else."""
        try:
            sealed = json.loads(self._ciphers.decrypt(token))
        except InvalidToken:
            raise VaultError(
                f"The credential of {tenant} at {partner} was sealed with another key or is damaged: add the "
                "former key as a line of vault.key, or enter the credential again with `zest connect`"
            ) from None
        if (sealed["tenant"], sealed["partner"]) != (tenant, partner):
            raise VaultError(
                f"The credential stored for {tenant} at {partner} belongs to another connection: "
                "find out who copied it, then enter the right one with `zest connect`"
            )
        return {str(name): str(value) for name, value in sealed["credential"].items()}
