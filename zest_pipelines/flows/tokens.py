"""The tokens that a partner gives a connection: kept in the database for all processes, asked for by one at a time.

A token is sealed together with a digest of what it was given for, the connection's address, settings and credential:
where one of these has changed it is theirs no more, and another one is asked for. What cannot be unsealed counts for
nothing either. Where the database cannot be reached, nobody asks and nobody calls.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Mapping
from hashlib import sha256

from partners.contract import Connection, Token
from partners.errors import Deferred, PartnerError
from resources.logins import Login
from resources.vault import VaultError
from zest_pipelines.flows.services import Services
from zest_pipelines.store import tokens
from zest_pipelines.store.keys import Target

_SPARED = 30.0
"""Seconds for which a token is not used at its end, or a quarter of its life: a call may be on its way so long."""
_ASK_EVERY = 0.05
_PATIENCE = 45.0
"""Seconds for which another's turn is waited for: two calls, as long as each may last."""


class Tokens:
    """Those of one connection, for all its lines; threads may share it."""

    def __init__(self, services: Services, connection: Connection, secret: Mapping[str, str]) -> None:
        self._services = services
        self._target = Target(connection.tenant, connection.partner)
        self._purpose = _digest(connection, secret)
        self._lock = threading.Lock()
        self._value = ""
        """The one in hand; empty: none is."""
        self._good_until = 0.0
        """Monotonic seconds."""
        self._failures = 0
        """How often none was to be had."""

    def token(self, ask: Callable[[], Token], refused: str = "") -> str:
        """See contract.Gate. Raises StoreError where the database cannot be reached."""
        before = self._failures
        with self._lock:
            if not self._has_good(refused):
                self._read()
            if not self._has_good(refused):
                try:
                    self._renew(ask, refused, has_waited=self._failures > before)
                except PartnerError:
                    self._failures += 1
                    raise
            return self._value

    def _has_good(self, refused: str) -> bool:
        return self._value not in ("", refused) and time.monotonic() < self._good_until

    def _renew(self, ask: Callable[[], Token], refused: str, *, has_waited: bool) -> None:
        """Have a good one in hand. Raises Deferred where somebody who was waited for got none."""
        give_up = time.monotonic() + _PATIENCE
        with self._services.database.session(Login.BUDGET) as session:
            while not tokens.take_turn(session, self._target):
                has_waited = True
                if time.monotonic() >= give_up:
                    raise Deferred(self._services.now())
                self._services.sleep(_ASK_EVERY)
            self._read()
            if self._has_good(refused):
                return
            if has_waited:  # what it got instead is told where it asked; a queue of us would be told the same
                raise Deferred(self._services.now())
            self._keep(ask())

    def _read(self) -> None:
        """Take in hand what is kept, if it is ours and good."""
        now, target = time.monotonic(), self._target
        with self._services.database.transaction(Login.BUDGET, target.tenant) as tx:
            kept = tokens.read(tx, target)
        if kept is None or kept.seconds <= 0:
            return
        try:
            held = self._services.vault.decrypt(kept.ciphertext, tenant=target.tenant, partner=target.partner)
        except VaultError:
            return
        if held.get("purpose") == self._purpose:
            self._value, self._good_until = held["access_token"], now + kept.seconds

    def _keep(self, token: Token) -> None:
        """Take it in hand, and keep it for the others."""
        lasts, target = token.lasts.total_seconds(), self._target
        seconds = lasts - min(_SPARED, lasts / 4)
        held = {"access_token": token.value, "purpose": self._purpose}
        sealed = self._services.vault.encrypt(held, tenant=target.tenant, partner=target.partner)
        self._value, self._good_until = token.value, time.monotonic() + seconds
        with self._services.database.transaction(Login.BUDGET, target.tenant) as tx:
            tokens.put(tx, target, sealed, seconds)


def _digest(connection: Connection, secret: Mapping[str, str]) -> str:
    told = [connection.base_url, dict(connection.settings), dict(secret)]
    return sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()
