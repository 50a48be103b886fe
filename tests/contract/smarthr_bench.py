"""What the tests of the SmartHR connector share: a SmartHR with made-up people, connectors, crews."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from fhir_bench import NotingGate

from partners.contract import Connection, Connector
from partners.smarthr.partner import SMARTHR
from partners.smarthr.sandbox import SmartHrConfig
from resources.http import Http

CONFIG = SmartHrConfig(token="a-token", staff=10, per_second=1000)
SAVED = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)


@contextmanager
def connected(
    url: str, *, token: str = "a-token", gate: Any = None, seconds: float = 10.0, **settings: str
) -> Iterator[Connector]:
    """A connector that gives up an exchange after `seconds`."""
    connection = Connection("hidamari", "smarthr", url, settings)
    client = Http(total_seconds=seconds).client()
    connector = SMARTHR.open(connection, {"token": token}, client, gate or NotingGate())
    try:
        yield connector
    finally:
        connector.close()


def crew_id(number: int) -> str:
    """The id of the crew of that number."""
    return str(UUID(int=number, version=4))


def crew(number: int, **said: Any) -> dict[str, Any]:
    """A crew that was saved so many minutes before SAVED, unless said otherwise."""
    row: dict[str, Any] = {
        "id": crew_id(number),
        "emp_code": f"{number:05}",
        "emp_status": "employed",
        "last_name": "森",
        "first_name": "梅",
        "last_name_yomi": "モリ",
        "first_name_yomi": "ウメ",
        "entered_at": "2020-04-01",
        "updated_at": (SAVED - timedelta(minutes=number)).isoformat(),
    }
    return row | said


def crews(count: int, **said: Any) -> list[dict[str, Any]]:
    """Crews 0 and on, the one saved last first."""
    return [crew(number, **said) for number in range(count)]
