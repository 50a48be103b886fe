"""What a run or a tick works with, made from Dagster's resources and closed at its end."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

from partners.contract import Partner
from resources.configurable import HttpResource, PostgresResource, VaultResource
from resources.logins import Login, LoginsError
from resources.private_files import PrivateFileError
from resources.vault import VaultError
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.failures import failure, fault_of
from zest_pipelines.store import due
from zest_pipelines.store.database import Database, Transaction
from zest_pipelines.store.errors import StoreError

NOT_ANSWERED = (StoreError, LoginsError, PrivateFileError)
"""What `asked` raises: no installation, or no database."""
_Answer = TypeVar("_Answer")


def asked(postgres: PostgresResource, question: Callable[[Transaction], _Answer]) -> _Answer:
    """The scheduler's answer, over all tenants, in one transaction. Raises NOT_ANSWERED."""
    database = Database(postgres.logins())
    try:
        with database.transaction(Login.SCHEDULE, None) as tx:
            return question(tx)
    finally:
        database.close()


@contextmanager
def opened_services(
    postgres: PostgresResource, http: HttpResource, vault: VaultResource, connections: int = 1
) -> Iterator[Services]:
    """What the stations need; `connections`: to the database, for each login. Raises dagster.Failure if the
    installation is not prepared."""
    if not gc.get_freeze_count():
        gc.freeze()  # what was imported stays; else each full collection, one every few pages, goes through all of it
    try:
        services = Services(Database(postgres.logins(), connections), vault.vault(), http.http())
    except (LoginsError, PrivateFileError, VaultError) as error:
        raise failure([("all tenants", fault_of(error))]) from None
    try:
        yield services
    finally:
        services.database.close()


def connected_tenants(services: Services, partner: Partner) -> Sequence[str]:
    """Whom a run for all of a partner's tenants is for, in order. Raises dagster.Failure."""
    try:
        with services.database.transaction(Login.SCHEDULE, None) as tx:
            return due.tenants(tx, partner.name)
    except StoreError as error:
        raise failure([("all tenants", fault_of(error))]) from None
