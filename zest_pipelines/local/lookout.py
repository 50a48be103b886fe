"""Looks from outside of Dagster whether it still works, and does the work of the alerts' station where it does not.

Where the database does not answer either, nothing can be stored: who wants to hear of the platform is told from memory,
at any hour, once when it begins and once when it is over. A process that dies meanwhile forgets that it has told.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta

from dagster import DagsterInstance
from dagster_postgres.utils import DagsterPostgresException
from sqlalchemy.exc import DBAPIError

from partners.reasons import reason
from resources.alerting import deliver
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.core.alarm import Trouble
from zest_pipelines.flows.alerts import Deliver, address_of, look, send, text_of, title_of
from zest_pipelines.flows.places import place_of
from zest_pipelines.flows.services import Services
from zest_pipelines.orchestration.alerts import troubles_of
from zest_pipelines.orchestration.silence import PATIENCE, silences
from zest_pipelines.store import alerts
from zest_pipelines.store.alerts import Notice
from zest_pipelines.store.errors import StoreError

_log = logging.getLogger(__name__)

EVERY = timedelta(minutes=1)
_AWAY = "database_silent"


@dataclass
class _Outage:
    """A time in which the database does not answer."""

    since: datetime
    untold: set[str] | None = None
    """Who was not told yet; None: it has not lasted long enough."""


class Lookout:
    """Call it every minute, from one thread."""

    def __init__(
        self,
        services: Services,
        opened: Callable[[], AbstractContextManager[DagsterInstance]],
        *,
        patience: timedelta = PATIENCE,
        delivered: Deliver = deliver,
    ) -> None:
        """`opened` opens Dagster's instance; it is asked anew until it has answered once."""
        self._services = services
        self._opened = opened
        self._patience = patience
        self._delivered = delivered
        self._started = services.now()
        self._addresses: dict[str, str] = {}
        self._outage: _Outage | None = None
        self._over: dict[str, Notice] = {}

    def __call__(self) -> tuple[Trouble, ...]:
        """One look: what is silent. Raises nothing for a database that is away."""
        now = self._services.now()
        try:
            self._remember()
            with self._opened() as instance:
                found = silences(instance, now, self._started, self._patience)
                troubles = (*troubles_of(instance, now), *found) if found else ()
            if found:
                look(self._services, troubles)
                send(self._services, self._delivered)
        except (StoreError, DBAPIError, DagsterPostgresException) as error:
            _log.warning("the database was asked in vain: %s", place_of(error))
            return self._away(now)
        self._back(now)
        return found

    def _remember(self) -> None:
        with self._services.database.transaction(Login.ALERT, None) as tx:
            targets = [each for each in alerts.targets(tx) if reason(_AWAY).owner in each.owners]
        self._addresses = {}
        for each in targets:
            try:
                self._addresses[each.name] = address_of(self._services.vault, each)
            except VaultError as error:
                _log.warning("the address of %s: %s", each.name, place_of(error))

    def _away(self, now: datetime) -> tuple[Trouble, ...]:
        if self._outage is None:
            self._outage = _Outage(now)
        if now - self._outage.since < self._patience:
            return ()
        trouble = Trouble("", _AWAY, "", 1, 0, self._outage.since)
        if self._outage.untold is None:
            self._outage.untold = set(self._addresses)
        for name in sorted(self._outage.untold):
            if self._is_told(_notice(trouble, name, "opened", now)):
                self._outage.untold.remove(name)
        return (trouble,)

    def _back(self, now: datetime) -> None:
        """Who was told that it is away is told that it is back, again and again until that got through."""
        if self._outage is not None and self._outage.untold is not None:
            trouble = Trouble("", _AWAY, "", 1, 0, self._outage.since)
            told: Sequence[str] = sorted(self._addresses.keys() - self._outage.untold)
            self._over |= {name: _notice(trouble, name, "recovered", now) for name in told}
        self._outage = None
        for name, notice in list(self._over.items()):
            if name not in self._addresses or self._is_told(notice):
                del self._over[name]

    def _is_told(self, notice: Notice) -> bool:
        try:
            return self._delivered(self._addresses[notice.target], title_of([notice]), text_of(notice))
        except Exception as error:  # noqa: BLE001  # whatever a service does: it is tried again, and the others are told
            _log.warning("a notice to %s: %s", notice.target, place_of(error))
            return False


def _notice(trouble: Trouble, target: str, kind: str, now: datetime) -> Notice:
    """Its number is the second in which it began: no number can be drawn."""
    return Notice(
        notice_id=int(trouble.since.timestamp()),
        target=target,
        kind=kind,
        is_held=False,
        fingerprint=trouble.fingerprint,
        partner="",
        reason=trouble.reason,
        detail="",
        records=trouble.records,
        tenants=trouble.tenants,
        first_at=trouble.since,
        seen_at=now,
    )
