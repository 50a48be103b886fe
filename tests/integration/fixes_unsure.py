"""Scenes at a partner that nobody can ask what became of a call: of `test_fixes`."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from fix_bench import TENANT, Person, fixes
from partner import PROOFS, Office, connect
from partner_process import RunningPartner
from test_other_hands import overtaken

from partners.registry import PARTNERS

NONE = PROOFS["proof_none"]


@pytest.fixture
def unasked(new_person: Any, partner: RunningPartner, monkeypatch: pytest.MonkeyPatch) -> tuple[Person, Office]:
    """A person of a tenant at it, which commands know too, with a client and a nurse whom it knows."""
    monkeypatch.setattr("partners.registry.PARTNERS", {**PARTNERS, NONE.name: NONE})
    person = new_person(NONE, "")
    office = connect(person.services.database, TENANT, NONE, partner.url)
    person.services = office.services
    return person, office


def lost(unasked: tuple[Person, Office], partner: RunningPartner, fault: str) -> tuple[Person, UUID]:
    """A visit whose answer was lost, before or after it was taken."""
    person, office = unasked
    (visit,) = office.add_visits()
    partner.fail(fault, times=1)
    person.minute()
    person.reads("delivery_unsure", visit)
    return person, visit


@fixes("delivery_unsure", "Delivery results", "Send again")
def it_is_missing_there(unasked: tuple[Person, Office], partner: RunningPartner) -> Person:
    person, visit = lost(unasked, partner, "cut_before")
    assert partner.state() == []
    person.sends_again()
    person.sees_ok(visit)
    return person


@fixes("delivery_unsure", "Delivery results", "Mark as delivered")
def it_is_there(unasked: tuple[Person, Office], partner: RunningPartner) -> Person:
    person, visit = lost(unasked, partner, "cut_after")
    (copy,) = partner.state()
    person.marks_as_delivered(visit, copy["partner_id"])
    person.sees_ok(visit)
    return person


def came_late(unasked: tuple[Person, Office], partner: RunningPartner) -> tuple[Person, Office, UUID]:
    """A visit over whose newest version an older one may have come."""
    person, office = unasked
    (visit,) = office.add_visits()
    person.minute()
    assert overtaken(office, partner, visit).late == 1
    person.minute()
    person.reads("late_answer_unsure", visit)
    return person, office, visit


@fixes("late_answer_unsure", "Delivery results", "Mark as delivered")
def the_copy_is_right(unasked: tuple[Person, Office], partner: RunningPartner) -> Person:
    person, _, visit = came_late(unasked, partner)
    (copy,) = partner.state()
    person.marks_as_delivered(visit, copy["partner_id"])
    person.sees_ok(visit)
    return person


@fixes("late_answer_unsure", "Visits")
def the_visit_is_saved_again(unasked: tuple[Person, Office], partner: RunningPartner) -> Person:
    person, office, visit = came_late(unasked, partner)
    person.goes("Visits")
    office.edit(visit, note="3 ")
    person.minute()
    person.sees_ok(visit)
    return person
