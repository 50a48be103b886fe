"""Scenes at SmartHR, which is only read: of `test_fixes`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from fix_bench import Person, fixes
from smarthr_bench import crew, crew_id, crews

from partners.smarthr.partner import SMARTHR
from partners.smarthr.sandbox import FaultKind, SmartHrConfig
from partners.smarthr.sandbox.testing import RunningSmartHr, running_smarthr

SECRET = {"token": "a-token"}


@pytest.fixture
def smarthr() -> Iterator[RunningSmartHr]:
    with running_smarthr(SmartHrConfig(token=SECRET["token"], per_second=1000)) as running:
        running.put_crews(crews(5))
        yield running


def connected(new_person: Any, smarthr: RunningSmartHr, secret: dict[str, str] | None = SECRET) -> Person:
    person: Person = new_person(SMARTHR, smarthr.url, secret)
    person.connects()
    person.minute()
    return person


def refused(new_person: Any, smarthr: RunningSmartHr, code: int, reason: str) -> Person:
    """SmartHR refuses all calls, until its people set it right."""
    person = connected(new_person, smarthr)
    smarthr.fail(FaultKind.ERROR, code=code)
    person.day()
    person.reads(reason)
    return person


def set_right(person: Person, smarthr: RunningSmartHr, place: str) -> Person:
    person.goes(place)
    smarthr.set_faults()
    person.waits()
    person.sees_ok()
    return person


@fixes("secret_missing", "Connection settings", "Credential")
def the_credential_is_entered(new_person: Any, smarthr: RunningSmartHr) -> Person:
    person = connected(new_person, smarthr, None)
    person.reads("secret_missing")
    person.connects("Connection settings", "Credential", secret=SECRET)
    person.waits()
    person.sees_ok()
    return person


@fixes("permission_missing", "Permissions")
def the_token_may_read_crews_again(new_person: Any, smarthr: RunningSmartHr) -> Person:
    person = refused(new_person, smarthr, 3, "permission_missing")
    return set_right(person, smarthr, "Permissions")


@fixes("plan_insufficient", "Plan")
def another_plan_is_booked(new_person: Any, smarthr: RunningSmartHr) -> Person:
    person = refused(new_person, smarthr, 7, "plan_insufficient")
    return set_right(person, smarthr, "Plan")


@fixes("origin_not_permitted", "IP restrictions")
def our_address_is_let_in(new_person: Any, smarthr: RunningSmartHr) -> Person:
    person = refused(new_person, smarthr, 15, "origin_not_permitted")
    return set_right(person, smarthr, "IP restrictions")


def spoilt(new_person: Any, smarthr: RunningSmartHr, code: str, name: str, value: Any) -> Person:
    """A field of a crew is emptied or wrong; the one that the action names is set right, and the next import comes."""
    person = connected(new_person, smarthr)
    smarthr.put_crew(crew_id(1), **{name: value}, **({"last_name_yomi": ""} if name == "last_name" else {}))
    person.day()
    assert f'"{name}"' in person.reads(code)["next_action"]
    person.goes_to_field(name)
    smarthr.put_crew(crew_id(1), **{name: crew(1)[name]})
    person.waits()
    person.sees_ok()
    return person


@fixes("required_field_missing", "{field}")
def the_field_is_filled_in(new_person: Any, smarthr: RunningSmartHr) -> Person:
    return spoilt(new_person, smarthr, "required_field_missing", "last_name", None)


@fixes("field_invalid", "{field}")
def the_field_is_corrected(new_person: Any, smarthr: RunningSmartHr) -> Person:
    return spoilt(new_person, smarthr, "field_invalid", "entered_at", "2020/04/01")


@fixes("required_field_missing", "{field}")
def two_fields_of_two_people_are_filled_in(new_person: Any, smarthr: RunningSmartHr) -> Person:
    person = connected(new_person, smarthr)
    smarthr.put_crew(crew_id(1), last_name=None, last_name_yomi="")
    smarthr.put_crew(crew_id(2), emp_status=None)
    person.day()
    assert "what each record shows" in person.reads("required_field_missing")["next_action"]  # and there:
    for number, each in enumerate(person.opens("staff", "required_field_missing"), 1):
        (name,) = [name for name in ("last_name", "emp_status") if f'"{name}"' in each["next_action"]]
        person.action = each["next_action"]
        person.goes_to_field(name)
        crew_there = crew_id(1 if name == "last_name" else 2)
        smarthr.put_crew(crew_there, **{name: crew(number)[name]})
    person.waits()
    person.sees_ok()
    return person
