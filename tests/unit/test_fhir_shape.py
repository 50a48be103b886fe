"""The elements that R4 knows."""

from __future__ import annotations

import json

import pytest
from test_fhir_mapping import patient, role

from partners.contract import Entity, Json
from partners.fhir.reading import client_record, staff_record
from partners.fhir.shape import unknown_fields

PRACTITIONER = {"resourceType": "Practitioner", "id": "s1"}


def _of_staff(*roles: Json, **elements: object) -> list[str]:
    return unknown_fields(Entity.STAFF, staff_record(PRACTITIONER | elements, roles).content)


@pytest.mark.parametrize("name", ["birthDate", "_birthDate", "_deceasedDateTime", "contained", "_language", "photo"])
def test_an_element_of_r4_and_the_twin_of_a_primitive_one_are_known(name: str) -> None:
    assert unknown_fields(Entity.CLIENT, client_record(patient(**{name: {}})).content) == []


@pytest.mark.parametrize("name", ["birthdate", "_name", "animal", "deceased", "__birthDate", ""])
def test_what_r4_does_not_have_is_named_and_its_value_is_not(name: str) -> None:
    content = patient(**{name: {"secret": "蟹工船太"}})
    assert unknown_fields(Entity.CLIENT, content) == [f"Patient.{name}"]


def test_staff_are_looked_at_in_all_their_resources_and_a_name_is_told_once() -> None:
    assert _of_staff(role(), qualification=[]) == []
    found = _of_staff(role("r1", shift=1), role("r2", shift=2, availabilityExceptions=""), nickname="x")
    assert found == ["Practitioner.nickname", "PractitionerRole.shift"]


def test_what_may_stand_in_one_resource_is_unknown_in_another() -> None:
    assert _of_staff(role(birthDate="1950"), specialty=[]) == ["Practitioner.specialty", "PractitionerRole.birthDate"]
    assert json.dumps(unknown_fields(Entity.CLIENT, patient(qualification=[]))) == '["Patient.qualification"]'
