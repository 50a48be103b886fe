"""What a command works with: the installation's database, vault and HTTP, opened when asked for."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.local import machine
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.store.database import Database, Transaction

if TYPE_CHECKING:
    from zest_pipelines.flows.services import Services


@dataclass(frozen=True)
class Session:
    """One command's way to the installation."""

    data_dir: DataDir
    logins: Logins
    database: Database

    def transaction(self, login: Login, tenant: str | None) -> AbstractContextManager[Transaction]:
        """As Database.transaction."""
        return self.database.transaction(login, tenant)

    def seal(self, secret: Mapping[str, str], tenant: str, partner: str) -> bytes:
        """The credential as it is kept. Raises VaultError, PrivateFileError."""
        return self._vault().encrypt(secret, tenant=tenant, partner=partner)

    def services(self) -> Services:
        """What the flows need. Raises VaultError, PrivateFileError."""
        from resources.http import Http
        from zest_pipelines.flows.services import Services

        return Services(self.database, self._vault(), Http())

    def _vault(self) -> Vault:
        return Vault.from_file(self.data_dir.vault_key_file)


@contextmanager
def open_session(data_dir: DataDir) -> Iterator[Session]:
    """A session on a prepared data directory. Raises what machine.attach raises."""
    logins = machine.attach(data_dir)
    database = Database(logins)
    try:
        yield Session(data_dir, logins, database)
    finally:
        database.close()
