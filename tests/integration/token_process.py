"""A process of its own that looks at one client of a connection from many threads at once (`Crowd`)."""

from __future__ import annotations

import json
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta
from threading import Barrier

from swaps import Swap, swapped

from partners.contract import Entity, SourceRecord
from partners.fhir.partner import FHIR
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows.opening import connection_row, open_line
from zest_pipelines.flows.services import Services
from zest_pipelines.store import tokens
from zest_pipelines.store.database import Database

WITHOUT_TURNS = "without turns"
"""The line that has nobody wait for another's turn."""
NO_TURNS: Swap = (tokens, "take_turn", lambda _: lambda *_: True)


@dataclass(frozen=True)
class Crowd:
    """What a process is to do: look at one client from so many threads at once, each with a line of its own."""

    host: str
    port: int
    database: str
    passwords: dict[str, str] = field(repr=False)
    vault_key: str = field(repr=False)
    tenant: str
    partner_id: str
    threads: int


def main() -> None:
    crowd = Crowd(**json.loads(sys.stdin.readline()))
    passwords = {Login(name): password for name, password in crowd.passwords.items()}
    logins = Logins(crowd.host, crowd.port, passwords, database=crowd.database)
    database = Database(logins, connections=crowd.threads)
    services = Services(database, Vault([crowd.vault_key]), Http(total_seconds=10))
    row = connection_row(services, FHIR, crowd.tenant, Login.PUSH)
    together = Barrier(crowd.threads)

    def look() -> bool:
        with open_line(services, FHIR, row, timedelta(seconds=30)) as line:
            together.wait(30)
            return isinstance(line.connector.fetch(Entity.CLIENT, crowd.partner_id), SourceRecord)

    print("ready", flush=True)
    with ThreadPoolExecutor(crowd.threads) as pool:
        for line in sys.stdin:
            with swapped([NO_TURNS] if line.strip() == WITHOUT_TURNS else []):
                found = [each.result() for each in [pool.submit(look) for _ in range(crowd.threads)]]
            print(sum(found), flush=True)
    database.close()


if __name__ == "__main__":
    main()
