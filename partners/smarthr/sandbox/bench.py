"""What the certification needs of a SmartHR, at the sandbox."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from uuid import UUID

from partners.certification.bench import Bench, Sizes
from partners.contract import Entity, Master, Staff
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
    settings: Mapping[str, str] = {"qualifications": "看護師,理学療法士"}
    sizes = {Entity.STAFF: Sizes(page=AT_ONCE, cap=3 * AT_ONCE)}  # noqa: RUF012  # nobody changes it

    def __init__(self, smarthr: RunningSmartHr) -> None:
        self._smarthr, self.url = smarthr, smarthr.url

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """Each saved a minute before the one before it."""
        crews = [_crew(number) for number in range(count)]
        self._smarthr.put_crews(crews)
        return [crew["id"] for crew in crews]

    def people(self, entity: Entity) -> Mapping[str, Master]:
        """A nurse, one who has left, one with a business name."""
        left: Json = {"emp_status": "retired", "last_name": "大野", "first_name": "健一", "resigned_at": "2026-03-31"}
        left |= {"last_name_yomi": "オオノ", "first_name_yomi": "ケンイチ", "positions": ["主任", "理学療法士"]}
        business: Json = {"business_last_name": "林", "business_first_name": "桜", "business_last_name_yomi": "ハヤシ"}
        business |= {"business_first_name_yomi": "サクラ", "emp_status": "absent", "entered_at": None}
        first, second, third = (_crew(number) for number in range(3))
        self._smarthr.put_crews([first | {"job_category": "看護師"}, second | left, third | business])
        since, until = date(2020, 4, 1), date(2026, 3, 31)
        return {
            first["id"]: Staff("00000", "森", "梅", "モリ", "ウメ", "看護師", since, None, active=True),
            second["id"]: Staff(
                "00001", "大野", "健一", "オオノ", "ケンイチ", "理学療法士", since, until, active=False
            ),
            third["id"]: Staff("00002", "林", "桜", "ハヤシ", "サクラ", "", None, None, active=True),
        }

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
        """By its code: the status says nothing."""
        self._smarthr.fail(FaultKind.ERROR, code=_NUMBER_OF_TOO_MANY, status=403)

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
