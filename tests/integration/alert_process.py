"""Looks and sends in processes that kill themselves at a named point of their way. For `test_alerts`.

The first line of standard input says where the installation is; each further one is a point (and a mutant), for which a
process is forked. It is answered by how that process ended: minus the signal, or its exit code.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import resources.alerting
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows import alerts as station
from zest_pipelines.flows.services import Services
from zest_pipelines.store import alerts
from zest_pipelines.store.database import Database

POINTS = ("alert stored", "looked", "taken", "delivered", "noted")
"""After the row of an alert and before its notices; the others as they say, each after its commit."""


def die(*_: Any, **__: Any) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _dies_after(real: Callable[..., Any]) -> Callable[..., Any]:
    def wrapped(*arguments: Any, **named: Any) -> Any:
        real(*arguments, **named)
        die()

    return wrapped


def _in_two(services: Services) -> None:
    """The mutant: the alert in one transaction, and its notices in another."""
    with services.database.transaction(Login.ALERT, None) as tx:
        open_ones = alerts.open_alerts(tx)
        found = station.step(open_ones, alerts.troubles(tx, station._wanted()), services.now(), station.CALM)
        alerts.store(tx, found, lambda _: {}, {})
    die()


def _act(logins: Logins, key: str, point: str, mutant: str) -> None:
    services = Services(Database(logins), Vault([key]), Http())
    with ExitStack() as stack:

        def swap(owner: Any, name: str, instead: Any) -> None:
            stack.enter_context(patch.object(owner, name, instead))

        if mutant == "in two":
            _in_two(services)
        if point == "alert stored":
            swap(alerts, "_open", _dies_after(alerts._open))
        if point == "taken":
            swap(station, "_tried", die)
        if point == "delivered":
            swap(station, "_note", die)
        if point == "noted":
            swap(station, "_note", _dies_after(station._note))
        station.look(services)
        if point == "looked":
            die()
        station.send(services)


def main() -> None:
    told = json.loads(sys.stdin.readline())
    logins = Logins.from_file(Path(told["logins"]), {})
    resources.alerting.checked_address(told["address"])  # loads all services, once
    for line in sys.stdin:
        asked = json.loads(line)
        if (child := os.fork()) == 0:
            try:
                _act(logins, told["key"], asked["point"], asked["mutant"])
            finally:
                os._exit(0)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main()
