"""What the certification needs of a SmartHR, at the sandbox."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from uuid import UUID

from partners.certification.bench import Bench, Sizes
from partners.contract import Entity
from partners.smarthr.partner import SMARTHR
from partners.smarthr.sandbox.crews import spelled
from partners.smarthr.sandbox.server import FaultKind, SmartHrConfig
from partners.smarthr.sandbox.testing import Json, RunningSmartHr, running_smarthr
from partners.smarthr.server import AT_ONCE

_SAVED = datetime(2026, 11, 24, 3, 0, tzinfo=UTC)
_NUMBER_OF_TOO_MANY = 6


class SmartHrBench(Bench):
    """Its crews; nothing is written there."""

    partner = SMARTHR
    secret: Mapping[str, str] = {"token": "a-token"}
    wrong_secret: Mapping[str, str] = {"token": "another"}
    settings: Mapping[str, str] = {}
    sizes = {Entity.STAFF: Sizes(page=AT_ONCE, cap=3 * AT_ONCE)}  # noqa: RUF012  # nobody changes it

    def __init__(self, smarthr: RunningSmartHr) -> None:
        self._smarthr, self.url = smarthr, smarthr.url

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """Each saved a minute before the one before it."""
        crews = [_crew(number) for number in range(count)]
        self._smarthr.put_crews(crews)
        return [crew["id"] for crew in crews]

    def change(self, entity: Entity, ids: Collection[str]) -> None:
        """As Bench."""
        now = spelled(datetime.now(UTC))
        crews = self._smarthr.crews()
        self._smarthr.put_crews([crew | ({"updated_at": now} if crew["id"] in ids else {}) for crew in crews])

    def remove(self, entity: Entity, partner_id: str) -> None:
        """As Bench."""
        self._smarthr.delete_crew(partner_id)

    def spoil(self, entity: Entity, partner_id: str) -> None:
        """As Bench."""
        dirt = {"emp_status": 7, "last_name": "\u0000", "first_name": [], "entered_at": "2020-13-45"}
        self._smarthr.put_crew(partner_id, **dirt, positions={"name": None}, updated_at="yesterday")

    def throttle(self) -> None:
        """As Bench."""
        self._smarthr.fail(FaultKind.ERROR, code=_NUMBER_OF_TOO_MANY)

    def heal(self) -> None:
        """As Bench."""
        self._smarthr.set_faults()


def _crew(number: int) -> Json:
    return {
        "id": str(UUID(int=number + 1, version=4)),
        "emp_code": f"{number:05}",
        "emp_status": "employed",
        "last_name": "森",
        "first_name": "梅",
        "last_name_yomi": "モリ",
        "first_name_yomi": "ウメ",
        "entered_at": "2020-04-01",
        "updated_at": spelled(_SAVED - timedelta(minutes=number)),
    }


@contextmanager
def running_bench() -> Iterator[Bench]:
    """A bench at a sandbox of its own."""
    config = SmartHrConfig(token="a-token", staff=3, per_second=10_000, per_hour=100_000)  # noqa: S106  # made up
    with running_smarthr(config) as smarthr:
        yield SmartHrBench(smarthr)
