"""A push in a process of its own, which may be told to die at a certain point.

What to do comes as JSON on its standard input. It prints nothing; it ends with 0, or by its own SIGKILL. A `mutant`
breaks a rule on purpose, so that a test can see that the breach would be noticed.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Any
from unittest.mock import patch

from partners.contract import Command, Connector, Reply
from partners.registry import PARTNERS
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.core.weeks import Days
from zest_pipelines.flows import push as push_module
from zest_pipelines.flows.push import push
from zest_pipelines.flows.push_period import push_period
from zest_pipelines.flows.services import Services
from zest_pipelines.store import leases, results
from zest_pipelines.store.database import Database
from zest_pipelines.store.leases import Kept


@dataclass
class Mortal:
    """A connector that kills its process before or after the real send."""

    inner: Connector
    dies: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    def send(self, command: Command) -> Reply:
        """Send, unless it is time to die."""
        if self.dies == "before_send":
            die()
        reply = self.inner.send(command)
        if self.dies == "after_send":
            die()
        return reply


def die() -> None:
    """Die as a killed process does: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def mutant(name: str) -> Callable[[ExitStack], None]:
    """Enter the patches of a mutant."""

    def enter(stack: ExitStack) -> None:
        match name:
            case "no_intent":
                stack.enter_context(patch.object(results, "add_intents", lambda *_: None))
            case "no_lease":
                stack.enter_context(patch.object(leases, "take", lambda *_: 1))
                stack.enter_context(patch.object(leases, "keep", lambda *_: Kept(is_paused=False, on_conflict="hold")))
            case "no_read_back":
                real = push_module.plan
                blind = lambda rules, subject, *more: real(rules, replace(subject, doubt=None), *more)  # noqa: E731
                stack.enter_context(patch.object(push_module, "plan", blind))
            case "none":
                pass
            case _:
                raise ValueError(name)

    return enter


def main(told: dict[str, Any]) -> None:
    """Push once, or until the days that are given are settled."""
    passwords = {Login(name): password for name, password in told["passwords"].items()}
    database = Database(Logins(told["host"], told["port"], passwords, database=told["database"]))
    http = Http(total_seconds=told["seconds"], connect_seconds=1)
    services = Services(database, Vault([told["key"]]), http, random=lambda: 0.0, under_way=timedelta(0))
    real = PARTNERS[told["partner"]]
    partner = replace(real, open=lambda *given: Mortal(real.open(*given), told["dies"]))
    with ExitStack() as stack:
        mutant(told["mutant"])(stack)
        if told["days"]:
            push_period(services, partner, told["tenant"], Days(*map(date.fromisoformat, told["days"])))
        else:
            push(services, partner, told["tenant"])


if __name__ == "__main__":
    main(json.loads(sys.stdin.read()))
