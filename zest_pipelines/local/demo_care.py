"""The demo's home-visit business whose care manager exchanges files with it. Whether both sides equal the product.

As independent a reading as that of a FHIR partner (`demo_comparison`): the care manager's own files and the product's
own tables. A file keeps no id of ours, so plan and actuals are compared as what they say: as many lines as there are
visits, each of a client, on a day, from when to when, of a service. Of the platform's tables it looks at the identities
and at the plans that landed: nothing of a plan is applied, so it shows nowhere else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from partners.carecsv.layouts import DAY, ENDS, INSURED, INSURER, PLAN_COLUMNS, SERVICE, STARTS
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, planned
from partners.carecsv.sandbox.office import Row as Line
from zest_pipelines.local.demo_comparison import Comparison, Difference, entries_differing, people_differing
from zest_pipelines.local.demo_product import JAPAN, Books, Row

CLIENTS = 100
_SEXES = {"1": "male", "2": "female"}
Entry = tuple[str, str, str, str, str]
"""Client (insurer and insured), day (YYYYMMDD), from, to (HHMM), service."""


@dataclass(frozen=True)
class CareState:
    """What the care manager's files say, and what of it has landed."""

    clients: Mapping[str, Line]
    """By insurer and insured."""
    plans: Mapping[tuple[str, str], Sequence[Line]]
    """By client and month."""
    actuals: Mapping[tuple[str, str], Sequence[Sequence[str]]]
    """By insured and month: what it was told."""
    landed: Mapping[tuple[str, date], Sequence[Mapping[str, Any]]]
    """By client and month: the services as the platform read them."""


@dataclass(frozen=True)
class DemoOffice:
    """The care manager's office of a tenant: a folder in which the files stay."""

    tenant: str
    seed: int
    folder: Path
    name: str = "carecsv"
    """Of the partner."""

    @property
    def url(self) -> str:
        """The folder's."""
        return self.folder.resolve().as_uri()

    @property
    def secret(self) -> Mapping[str, str]:
        """There is none to a folder of this machine."""
        return {}

    @property
    def settings(self) -> Mapping[str, str]:
        """Of its connection."""
        return {"office": RECEIVER, "kind": "11"}

    def open(self) -> Sequence[str] | None:
        """See that its folder is there; the command by which its first files come, or None if they have come."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if self._office().clients():
            return None
        month = f"{datetime.now(JAPAN):%Y%m}"
        return "sandbox", "carecsv", str(self.folder), *_options(seed=self.seed, clients=CLIENTS, plans=month)

    def state(self, landed: Mapping[tuple[str, date], Sequence[Mapping[str, Any]]]) -> CareState:
        """All that its files say, those that it has just taken among them."""
        office = self._office()
        office.take()
        return CareState(office.clients(), office.plans(), office.actuals, landed)

    def agree(self, books: Books, people: Mapping[UUID, str]) -> None:
        """Plan each month of theirs as the product has it confirmed; what was planned otherwise is taken back."""
        office = self._office()
        clients, now = office.clients(), datetime.now(JAPAN)
        before = office.plans()
        months: dict[str, list[Line]] = {month: [] for _, month in before}
        for visit in _confirmed(books):
            starts, ends = (visit[name].astimezone(JAPAN) for name in ("starts_at", "ends_at"))
            client = clients[people[visit["client_id"]]]
            months.setdefault(f"{starts:%Y%m}", []).append(planned(client, starts, ends, visit["service_code"]))
        for month, lines in months.items():
            if taken_back := [clients[client] for client, of in before if of == month]:
                office.take_back(taken_back, month, now)
            if lines:
                office.send_plans(lines, month, now)

    def _office(self) -> CareOffice:
        return CareOffice(self.folder)


def compare_care(books: Books, state: CareState, people: Mapping[UUID, str]) -> Comparison:
    """Both sides of the tenant; `people` maps our clients' ids to theirs. Booked is what the care manager plans."""
    theirs = {whose: _client(row) for whose, row in state.clients.items()}
    lines = [line for plan in state.plans.values() for line in plan]
    return Comparison(
        clients=len(books.clients),
        staff=len(books.staff),
        visits=len(books.visits),
        booked=len(lines),
        cancelled=0,  # a cancelled one stands in no file
        encounters=sum(map(len, state.actuals.values())),
        differences=(
            *people_differing("client", books.clients, theirs, people),
            *_actuals_differing(books, state, people),
            *plans_differing(books, state, people),
        ),
    )


def plans_differing(books: Books, state: CareState, people: Mapping[UUID, str]) -> Iterator[Difference]:
    """In what the care manager's plans are not what is confirmed, or have not landed as they are."""
    wanted = {str(row["visit_id"]): _entry(row, row["starts_at"], row["ends_at"], people) for row in _confirmed(books)}
    lines = [_planned(client, line) for (client, _), plan in state.plans.items() for line in plan]
    yield from entries_differing("plan", wanted, lines)
    landed = [_landed(client, each) for (client, _), plan in state.landed.items() for each in plan]
    yield from (Difference("plan", "?", "has landed") for _ in (Counter(lines) - Counter(landed)).elements())
    yield from (Difference("plan", "?", "is theirs") for _ in (Counter(landed) - Counter(lines)).elements())


def _actuals_differing(books: Books, state: CareState, people: Mapping[UUID, str]) -> Iterator[Difference]:
    visits = {row["visit_id"]: row for row in _confirmed(books)}
    done = [row for row in books.records if row["status"] == "done" and row["visit_id"] in visits]
    wanted = {
        str(row["visit_id"]): _entry(visits[row["visit_id"]], row["started_at"], row["ended_at"], people)
        for row in done
    }
    told = [_told(row, month) for (_, month), rows in state.actuals.items() for row in rows]
    yield from entries_differing("visit_record", wanted, told)


def _confirmed(books: Books) -> Iterator[Row]:
    return (row for row in books.visits if row["status"] == "confirmed")


def _client(row: Line) -> Row:
    family, _, given = row["利用者氏名"].partition("　")
    family_kana, _, given_kana = row["利用者氏名フリガナ"].partition(" ")
    born = row["利用者生年月日"]
    return {
        "family_name": family,
        "given_name": given,
        "family_kana": family_kana,
        "given_kana": given_kana,
        "birth_date": f"{born[:4]}-{born[4:6]}-{born[6:]}",
        "sex": _SEXES[row["利用者性別"]],
        "postal_code": row["利用者郵便番号"],
        "address": row["利用者住所１"] + row["利用者住所２"],
        "phone": row["利用者電話番号"],
        "active": True,
    }


def _entry(visit: Row, starts_at: datetime, ends_at: datetime, people: Mapping[UUID, str]) -> Entry:
    starts, ends = starts_at.astimezone(JAPAN), ends_at.astimezone(JAPAN)
    whose = people.get(visit["client_id"], "")
    return whose, f"{starts:%Y%m%d}", f"{starts:%H%M}", f"{ends:%H%M}", visit["service_code"]


def _planned(client: str, line: Line) -> Entry:
    return client, line[DAY], line[STARTS], line[ENDS], line[SERVICE]


def _landed(client: str, service: Mapping[str, Any]) -> Entry:
    starts, ends = (service[name].replace(":", "") for name in ("starts", "ends"))
    return client, service["day"].replace("-", ""), starts, ends, service["service_code"]


def _told(row: Sequence[str], month: str) -> Entry:
    """Of another month than its file's: a line of nobody."""
    line = dict(zip((each.name for each in PLAN_COLUMNS), row, strict=True))
    whose = f"{line[INSURER]}-{line[INSURED]}" if line[DAY].startswith(month) else ""
    return _planned(whose, line)


def _options(**options: object) -> list[str]:
    return [text for name, value in options.items() for text in (f"--{name}", str(value))]
