"""The vault: only the right key, and only the right connection, opens a credential."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from resources.private_files import PrivateFileError
from resources.vault import Vault, VaultError

CREDENTIAL = {"client_id": "zest", "client_secret": "s3cret-ひみつ"}


def key() -> str:
    return Fernet.generate_key().decode()


def test_what_is_sealed_is_opened_for_its_own_connection() -> None:
    vault = Vault([key()])

    token = vault.encrypt(CREDENTIAL, tenant="sakura", partner="fhir")

    assert vault.decrypt(token, tenant="sakura", partner="fhir") == CREDENTIAL
    assert b"s3cret" not in token
    assert token.isascii()


@pytest.mark.parametrize(("tenant", "partner"), [("ume", "fhir"), ("sakura", "orca"), ("fhir", "sakura")])
def test_a_row_copied_to_another_connection_does_not_open(tenant: str, partner: str) -> None:
    vault = Vault([key()])
    token = vault.encrypt(CREDENTIAL, tenant="sakura", partner="fhir")

    with pytest.raises(VaultError, match="another connection") as caught:
        vault.decrypt(token, tenant=tenant, partner=partner)

    assert "s3cret" not in str(caught.value)


def test_the_first_key_seals_and_every_key_opens() -> None:
    old, new = key(), key()
    former = Vault([old]).encrypt(CREDENTIAL, tenant="sakura", partner="fhir")
    rotated = Vault([new, old])

    fresh = rotated.encrypt(CREDENTIAL, tenant="sakura", partner="fhir")

    assert rotated.decrypt(former, tenant="sakura", partner="fhir") == CREDENTIAL
    assert Vault([new]).decrypt(fresh, tenant="sakura", partner="fhir") == CREDENTIAL


@pytest.mark.parametrize("token", [b"", b"garbage", None])
def test_another_key_or_a_damaged_token_says_what_to_do_and_nothing_secret(token: bytes | None) -> None:
    sealed = Vault([key()]).encrypt(CREDENTIAL, tenant="sakura", partner="fhir") if token is None else token

    with pytest.raises(VaultError, match="zest connect") as caught:
        Vault([key()]).decrypt(sealed, tenant="sakura", partner="fhir")

    assert caught.value.__suppress_context__


def test_a_created_key_is_private_and_opens_what_it_sealed(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"

    token = Vault.create_file(path).encrypt(CREDENTIAL, tenant="sakura", partner="fhir")

    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert Vault.from_file(path, environ={}).decrypt(token, tenant="sakura", partner="fhir") == CREDENTIAL


def test_a_key_that_is_there_is_never_replaced(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    Vault.create_file(path)
    before = path.read_text()

    with pytest.raises(VaultError, match="nothing was written"):
        Vault.create_file(path)

    assert path.read_text() == before


def test_a_key_file_open_to_others_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "vault.key"
    Vault.create_file(path)
    path.chmod(0o640)

    with pytest.raises(PrivateFileError, match="chmod 600"):
        Vault.from_file(path, environ={})


def test_the_environment_goes_before_the_file_and_may_hold_several_keys(tmp_path: Path) -> None:
    old, new = key(), key()
    token = Vault([old]).encrypt(CREDENTIAL, tenant="sakura", partner="fhir")

    vault = Vault.from_file(tmp_path / "none", environ={"ZEST_VAULT_KEY": f"{new}\n{old}"})

    assert vault.decrypt(token, tenant="sakura", partner="fhir") == CREDENTIAL


def test_no_key_at_all_says_where_one_may_come_from(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match="ZEST_VAULT_KEY"):
        Vault.from_file(tmp_path / "vault.key", environ={})


@pytest.mark.parametrize("text", ["", "not-a-key-s3cret\n"])
def test_an_empty_or_malformed_key_file_is_refused_without_quoting_it(tmp_path: Path, text: str) -> None:
    path = tmp_path / "vault.key"
    path.write_text(text)
    path.chmod(0o600)

    with pytest.raises(VaultError, match="backup") as caught:
        Vault.from_file(path, environ={})

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
