"""Laws of the way in, for whatever a partner has, however its pager cuts it, and whatever its people do meanwhile.

The stations are the real ones on a real database. The partner is a list in memory with a pager by offset over it, as
most servers have: a row that goes or comes shifts all rows behind it. With ZEST_SOAK=1, far more examples.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

import pytest
import sqlalchemy as sa
from conftest import NewTenant, Tenant, fresh_database
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from listed_partner import Listed, connected, record
from swaps import Swap, swapped

from partners.contract import AfterReadings, Entity, Page
from resources.http import Http
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import DiffReport, LandReport
from zest_pipelines.flows.services import Services
from zest_pipelines.local.embedded import EmbeddedServer
from zest_pipelines.store import masters
from zest_pipelines.store.database import Database

CLIENT = Entity.CLIENT
IDS = [f"p{number}" for number in range(9)]  # fewer than a mass change
_numbers = count(1)

Edit = tuple[str, str | None]
"""An id and the family name that it has from now on; None: it is deleted."""

names = st.sampled_from(["佐藤", "鈴木"])
lists = st.dictionaries(st.sampled_from(IDS), names)
edits = st.lists(st.tuples(st.sampled_from(IDS), st.none() | names), max_size=3)
readings = st.lists(st.lists(edits, max_size=4), min_size=1, max_size=4)
"""For each reading, what is done before each of its pages."""
at_most = settings(
    max_examples=400 if os.environ.get("ZEST_SOAK") == "1" else 8,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)


@pytest.fixture(scope="module")
def services(server: EmbeddedServer, template: Logins) -> Iterator[Services]:
    with fresh_database(server, template) as logins:
        database = Database(logins)
        yield Services(database, Vault([Fernet.generate_key().decode()]), Http())
        database.close()


@dataclass
class Paged(Listed):
    """The list with a pager by offset, which is edited before each page and notes what each reading showed."""

    script: Sequence[Sequence[Edit]] = ()
    shown: list[set[str]] = field(default_factory=list)

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        self.shown.append(set())
        number, is_last = 0, False
        while not is_last:
            for partner_id, name in self.script[number] if number < len(self.script) else ():
                self.edit(partner_id, name)
            rows = sorted(self.rows.items())
            page = rows[number * self.size : (number + 1) * self.size]
            number += 1
            is_last = number * self.size >= len(rows)
            self.shown[-1] |= {partner_id for partner_id, _ in page}
            yield Page(tuple(record(*row) for row in page), True, len(rows), is_last=is_last)

    def edit(self, partner_id: str, name: str | None) -> None:
        if name is not None:
            self.rows[partner_id] = name
        else:
            with suppress(KeyError):
                del self.rows[partner_id]


@dataclass
class Cut(Listed):
    """The list as pages of any cut: any order, and some of it twice."""

    cut: Sequence[Sequence[str]] = ()

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        for number, ids in enumerate(self.cut, start=1):
            records = tuple(record(each, self.rows[each]) for each in ids)
            yield Page(records, True, len(self.rows), is_last=number == len(self.cut))


@st.composite
def cuts(draw: st.DrawFn, ids: Sequence[str]) -> list[list[str]]:
    """Pages on which each id comes at least once."""
    again = draw(st.lists(st.sampled_from(ids), max_size=4)) if ids else []
    order = draw(st.permutations([*ids, *again]))
    edges = sorted(draw(st.sets(st.integers(0, len(order)), max_size=3)))
    return [list(order[start:end]) for start, end in zip([0, *edges], [*edges, len(order)], strict=True)]


def at(new_tenant: NewTenant, listed: Listed, **changes: Any) -> Tenant:
    return connected(new_tenant, listed, f"t{next(_numbers)}", **changes)


def read(tenant: Tenant) -> LandReport:
    return land(tenant.services, tenant.partner, tenant.name, CLIENT)


def compare(tenant: Tenant) -> DiffReport:
    return diff(tenant.services, tenant.partner, tenant.name, CLIENT)


def take_in(tenant: Tenant) -> None:
    assert read(tenant).state == "certified"
    compare(tenant)
    apply(tenant.services, tenant.partner, tenant.name, CLIENT)


def gone_in(tenant: Tenant, report: LandReport) -> set[str]:
    """The ids that landed as gone in this reading."""
    statement = "SELECT partner_id FROM sync.landed_version WHERE snapshot_id = :snapshot AND fingerprint IS NULL"
    return {row.partner_id for row in tenant.sql(statement, Login.OPERATOR, snapshot=report.snapshot)}


def landed(tenant: Tenant) -> dict[str, str]:
    """What landed, by the newest version of each record; one that is gone is not in it."""
    rows = tenant.sql("SELECT partner_id, content FROM sync.landed_version ORDER BY landed_no", Login.OPERATOR)
    newest = {row.partner_id: row.content and row.content["family_name"] for row in rows}
    return {partner_id: name for partner_id, name in newest.items() if name is not None}


def kept(tenant: Tenant) -> Mapping[str, str]:
    """The masters in force, by the partner's id."""
    statement = (
        "SELECT i.partner_id, c.family_name FROM sync.identity i "
        "JOIN schedule.client c ON c.client_id = i.record_id AND c.active WHERE i.valid_to IS NULL"
    )
    return {row.partner_id: row.family_name for row in tenant.sql(statement, Login.OPERATOR)}


@given(lists, readings, st.integers(1, 4))
@example(dict.fromkeys(IDS[:6], "佐藤"), [[], [[], [("p0", None), ("p8", "佐藤")]]], 2)  # p2 is shifted out of sight
@at_most
def test_no_edits_between_pages_make_a_record_gone_that_the_partner_has(
    new_tenant: NewTenant, rows: dict[str, str], scripts: list[list[list[Edit]]], size: int
) -> None:
    paged = Paged(dict(rows), size)
    tenant = at(new_tenant, paged)
    for script in scripts:
        paged.script = script
        report = read(tenant)
        assert gone_in(tenant, report) & paged.rows.keys() == set()
    paged.script = ()
    take_in(tenant)
    assert (landed(tenant), kept(tenant)) == (paged.rows, paged.rows)


@given(lists, readings, st.integers(1, 4))
@at_most
def test_where_nobody_can_be_asked_only_those_are_gone_whom_two_certified_readings_in_a_row_did_not_show(
    new_tenant: NewTenant, rows: dict[str, str], scripts: list[list[list[Edit]]], size: int
) -> None:
    paged = Paged(dict(rows), size)
    tenant = at(new_tenant, paged, proves_absence=AfterReadings(2))
    certified: list[set[str]] = []
    for script in scripts:
        paged.script = script
        report = read(tenant)
        if report.state == "certified":
            certified.append(paged.shown[-1])
        gone = gone_in(tenant, report)
        assert not gone or (report.state == "certified" and len(certified) >= 2)
        assert gone & set().union(*certified[-2:]) == set()
    paged.script = ()
    take_in(tenant)
    take_in(tenant)
    assert landed(tenant) == kept(tenant) == paged.rows


@given(st.data())
@at_most
def test_any_cut_of_a_list_lands_as_the_same_and_another_cut_of_it_lands_nothing(
    new_tenant: NewTenant, data: st.DataObject
) -> None:
    rows = data.draw(lists)
    listed = Cut(rows, cut=data.draw(cuts(sorted(rows))))
    tenant = at(new_tenant, listed)
    first = read(tenant)
    assert (first.state, first.records, first.new_versions, landed(tenant)) == ("certified", len(rows), len(rows), rows)
    listed.cut = data.draw(cuts(sorted(rows)))
    again = read(tenant)
    assert (again.state, again.records, again.new_versions, again.gone) == ("certified", len(rows), 0, 0)


def follows(new_tenant: NewTenant, *states: dict[str, str]) -> Tenant:
    """The partner's list is one after the other, and after each the masters are as it says."""
    listed = Cut()
    tenant = at(new_tenant, listed)
    for rows in states:
        listed.rows, listed.cut = rows, [sorted(rows)]
        take_in(tenant)
        assert kept(tenant) == rows
    return tenant


@given(lists, lists)
@example({"p0": "佐藤", "p1": "佐藤"}, {"p0": "鈴木"})
@at_most
def test_applying_the_difference_of_two_lists_ends_at_the_newer_one_there_and_back_and_once_more_there_is_none(
    new_tenant: NewTenant, older: dict[str, str], newer: dict[str, str]
) -> None:
    tenant = follows(new_tenant, older, newer, older)
    take_in(tenant)
    found = compare(tenant)
    assert (found.added, found.changed, found.deleted, kept(tenant)) == (0, 0, 0, older)


# --- The laws are seen to fail ----------------------------------------------------------------------------------------


def _a_field_short(real: Any) -> Any:
    def steps(*given: Any) -> Any:
        """What landed, with the name that was applied before."""
        return [
            replace(step, master={**step.master, "family_name": step.applied["family_name"]})
            if step.master and step.applied
            else step
            for step in real(*given)
        ]

    return steps


def _nobody_comes_back(real: Any) -> Any:
    def put(tx: Any, scope: Any, record_id: Any, master: Any) -> None:
        statement = "SELECT active FROM schedule.client WHERE client_id = :record_id"
        was = tx.execute(sa.text(statement), {"record_id": record_id}).scalar()
        real(tx, scope, record_id, {**master, "active": was is not False})

    return put


@pytest.mark.parametrize(
    "swap",
    [(masters, "steps", _a_field_short), (masters, "put_master", _nobody_comes_back)],
    ids=["the difference leaves a field out", "who comes back stays retired"],
)
def test_a_breach_of_the_law_is_noticed(new_tenant: NewTenant, swap: Swap) -> None:
    with swapped([swap]), pytest.raises(AssertionError):
        follows(new_tenant, {"p0": "佐藤", "p1": "佐藤"}, {"p0": "鈴木"}, {"p0": "鈴木", "p1": "佐藤"})
