"""The services of a run, made from Dagster's resources and closed at its end."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from resources.configurable import HttpResource, PostgresResource, VaultResource
from resources.logins import LoginsError
from resources.private_files import PrivateFileError
from resources.vault import VaultError
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.failures import failure, fault_of
from zest_pipelines.store.database import Database


@contextmanager
def opened_services(postgres: PostgresResource, http: HttpResource, vault: VaultResource) -> Iterator[Services]:
    """What the stations need. Raises dagster.Failure if the installation is not prepared."""
    try:
        services = Services(Database(postgres.logins()), vault.vault(), http.http())
    except (LoginsError, PrivateFileError, VaultError) as error:
        raise failure([("all tenants", fault_of(error))]) from None
    try:
        yield services
    finally:
        services.database.close()
