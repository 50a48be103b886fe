"""The resources as Dagster configures them: where they are, not what they do. Nothing is read or connected
before use.

Each hands out the plain value that the stations take. A missing file is reported by that value's own error,
with the next step in it, when a run or a tick first needs it: loading the definitions needs neither files nor
a database.
"""

from __future__ import annotations

import os
from pathlib import Path

from dagster import ConfigurableResource
from pydantic import Field

from resources.http import Http
from resources.logins import Logins
from resources.vault import Vault

_DATA_DIR = Field(default="", description="The data directory. Empty: ZEST_DATA_DIR, else .zest beside workspace.yaml.")
_PROJECT = Path(__file__).resolve().parents[1]


def data_dir(configured: str) -> Path:
    """The data directory: as configured, else ZEST_DATA_DIR, else `.zest` in the project's folder."""
    return Path(configured or os.environ.get("ZEST_DATA_DIR") or _PROJECT / ".zest").expanduser().resolve()


class PostgresResource(ConfigurableResource[Logins]):
    """Server, databases and passwords of the logins."""

    data_dir: str = _DATA_DIR

    def logins(self) -> Logins:
        """The logins. LoginsError or PrivateFileError if their file is missing, damaged or open to others."""
        return Logins.from_file(data_dir(self.data_dir) / "logins.json")


class VaultResource(ConfigurableResource[Vault]):
    """The key that opens the connections' credentials."""

    data_dir: str = _DATA_DIR

    def vault(self) -> Vault:
        """The vault. VaultError or PrivateFileError if its key is missing, damaged or open to others."""
        return Vault.from_file(data_dir(self.data_dir) / "vault.key")


class HttpResource(ConfigurableResource[Http]):
    """How partners are called."""

    total_seconds: float = Field(default=20.0, gt=0, description="From asking for a connection to the answer's end.")
    ca_file: str = Field(default="", description="PEM file of the authorities to trust. Empty: the public ones.")

    def http(self) -> Http:
        """The settings from which each connector's client is made."""
        return Http(total_seconds=self.total_seconds, ca_file=Path(self.ca_file) if self.ca_file else None)
