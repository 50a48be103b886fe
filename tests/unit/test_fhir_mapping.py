"""FHIR resources to masters, and commands to FHIR resources: pure rules, no server."""

from __future__ import annotations

from dataclasses import fields, replace
from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from partners.contract import Client, Command, Entity, Staff, Unmappable, Verb, Visit, VisitRecord
from partners.fhir.mapping import map_record
from partners.fhir.names import REPRESENTATION
from partners.fhir.visits import differing, merged

PATIENT_SYSTEM = "urn:oid:1.2.392.100495.20.3.51.11311234567"
STAFF_SYSTEM = "urn:oid:1.2.392.100495.20.3.41.11311234567"
SETTINGS = {
    "patient_identifier_system": PATIENT_SYSTEM,
    "staff_identifier_system": STAFF_SYSTEM,
    "visit_identifier_system": "urn:zest:visit",
    "record_identifier_system": "urn:zest:visit-record",
    "service_type_system": "urn:zest:service-code",
}


def name(script: str | None, family: str, given: str, **more: Any) -> dict[str, Any]:
    extension = {"extension": [{"url": REPRESENTATION, "valueCode": script}]} if script else {}
    return {**extension, "family": family, "given": [given], **more}


KANJI = name("IDE", "佐藤", "花子", use="usual")
KANA = name("SYL", "サトウ", "ハナコ", use="usual")


def patient(**elements: Any) -> dict[str, Any]:
    return {
        "resourceType": "Patient",
        "id": "p1",
        "identifier": [{"system": PATIENT_SYSTEM, "value": "00000010"}],
        "name": [KANJI, KANA],
        **elements,
    }


def client(**elements: Any) -> Client:
    mapped = map_record(Entity.CLIENT, patient(**elements), SETTINGS)
    assert isinstance(mapped, Client)
    return mapped


def refusal(**elements: Any) -> Unmappable:
    mapped = map_record(Entity.CLIENT, patient(**elements), SETTINGS)
    assert isinstance(mapped, Unmappable)
    return mapped


def staff(*roles: dict[str, Any], **elements: Any) -> Staff:
    practitioner = {
        "resourceType": "Practitioner",
        "id": "s1",
        "identifier": [{"system": STAFF_SYSTEM, "value": "0001"}],
        "name": [KANJI],
        **elements,
    }
    content = {"practitioner": practitioner, "roles": list(roles)}
    mapped = map_record(Entity.STAFF, content, SETTINGS)
    assert isinstance(mapped, Staff)
    return mapped


def role(key: str = "r1", title: str = "看護師", **elements: Any) -> dict[str, Any]:
    return {"resourceType": "PractitionerRole", "id": key, "code": [{"text": title}], **elements}


def names_of(*names: dict[str, Any]) -> tuple[str, str, str, str]:
    found = client(name=list(names))
    return found.family_name, found.given_name, found.family_kana, found.given_kana


@pytest.mark.parametrize("names", [[KANJI, KANA], [KANA, KANJI]], ids=["kanji first", "kana first"])
def test_names_are_told_apart_by_the_extension_and_not_by_their_order(names: list[dict[str, Any]]) -> None:
    assert names_of(*names) == ("佐藤", "花子", "サトウ", "ハナコ")


def test_a_name_in_kanji_alone_leaves_the_kana_empty_and_the_other_way_round() -> None:
    assert names_of(KANJI) == ("佐藤", "花子", "", "")
    assert names_of(KANA) == ("", "", "サトウ", "ハナコ")


def test_a_name_without_the_extension_is_taken_as_kanji_and_a_latin_one_is_passed_over() -> None:
    assert names_of(name("ABC", "Sato", "Hanako"), name(None, "佐藤", "花子")) == ("佐藤", "花子", "", "")


def test_an_official_name_comes_before_a_usual_one_and_the_reading_goes_with_its_kanji() -> None:
    official = name("IDE", "鈴木", "花子", use="official"), name("SYL", "スズキ", "ハナコ", use="official")
    assert names_of(KANJI, KANA, *official) == ("鈴木", "花子", "スズキ", "ハナコ")
    assert names_of(KANA, official[1], KANJI) == ("佐藤", "花子", "サトウ", "ハナコ")


def test_a_name_whose_period_has_ended_gives_way_to_the_one_in_force() -> None:
    before = name("IDE", "旧姓", "花子", use="official", period={"end": "2020-03-31"})
    assert names_of(before, KANJI)[0] == "佐藤"
    assert names_of(before)[0] == "旧姓"


def test_a_name_marked_old_is_never_used() -> None:
    assert refusal(name=[{**KANJI, "use": "old"}]) == Unmappable("required_field_missing", {"field": "Patient.name"})


def test_a_name_given_as_text_alone_is_divided_at_its_space() -> None:
    assert names_of({"text": "山田　太郎"})[:2] == ("山田", "太郎")
    assert names_of({"text": "山田太郎"})[:2] == ("山田太郎", "")


def test_the_number_is_the_identifier_of_the_system_that_the_connection_names() -> None:
    others = [{"system": "urn:other", "value": "9"}, {"value": "8"}]
    numbers = [
        {"system": PATIENT_SYSTEM, "value": "old", "use": "old"},
        {"system": PATIENT_SYSTEM, "value": "over", "period": {"end": "2020"}},
        {"system": PATIENT_SYSTEM, "value": "0042"},
    ]
    assert client(identifier=[*others, *numbers]).number == "0042"
    assert refusal(identifier=others) == Unmappable("required_field_missing", {"field": "Patient.identifier"})


def test_without_the_setting_of_the_system_nothing_is_mapped() -> None:
    missing = Unmappable("settings_missing", {"key": "patient_identifier_system"})
    assert map_record(Entity.CLIENT, patient(), {}) == missing


@pytest.mark.parametrize("born", ["", "1931", "1931-02", "1931-02-28"])
def test_a_birth_date_may_be_partial_or_unknown(born: str) -> None:
    assert client(**({"birthDate": born} if born else {})).birth_date == born


@pytest.mark.parametrize("born", ["1931-02-29", "1931-13", "31-02-01", "昭和6年", "1931-02-28T00:00:00Z"])
def test_a_birth_date_that_does_not_exist_is_quarantined(born: str) -> None:
    assert refusal(birthDate=born) == Unmappable("field_invalid", {"field": "Patient.birthDate"})


def test_a_gender_that_r4_does_not_know_is_named_without_its_value() -> None:
    assert refusal(gender="女性") == Unmappable("unknown_code", {"field": "Patient.gender"})
    assert [client(gender=code).sex for code in ("male", "female", "other", "unknown")] == [
        *("male", "female", "other", "unknown")
    ]
    assert client().sex == "unknown"


@pytest.mark.parametrize(
    ("elements", "field"),
    [
        ({"name": "佐藤花子"}, "Patient.name"),
        ({"name": ["佐藤花子"]}, "Patient.name"),
        ({"name": [{"family": ["佐藤"]}]}, "Patient.name.family"),
        ({"active": "true"}, "Patient.active"),
        ({"birthDate": 19310228}, "Patient.birthDate"),
        ({"telecom": [{"system": "phone", "value": 312345678}]}, "Patient.telecom.value"),
        ({"address": [{"use": "home", "line": "本町1"}]}, "Patient.address.line"),
        ({"deceasedBoolean": None}, "Patient.deceasedBoolean"),
    ],
)
def test_an_element_of_the_wrong_type_is_named_and_its_content_is_not(elements: Any, field: str) -> None:
    assert refusal(**elements) == Unmappable("field_invalid", {"field": field})


def test_the_phone_is_the_preferred_one_in_force() -> None:
    phones = [
        {"system": "fax", "value": "1", "use": "home"},
        {"system": "phone", "value": "2", "use": "old"},
        {"system": "phone", "value": "3", "use": "home", "period": {"end": "2020-01-01"}},
        {"system": "phone", "value": "4", "use": "work"},
        {"system": "phone", "value": "5", "use": "mobile"},
    ]
    assert client(telecom=phones).phone == "5"
    assert client(telecom=[*phones, {"system": "phone", "value": "6", "use": "work", "rank": 1}]).phone == "6"
    assert client(telecom=phones[:3]).phone == ""


def test_the_address_is_the_home_in_force_and_is_written_out_if_it_has_no_text() -> None:
    home = {
        "use": "home",
        "postalCode": "000-0001",
        "state": "東京都",
        "city": "若葉市",
        "line": ["本町", "1"],
    }
    places = [
        {"use": "old", "text": "昔"},
        {"use": "home", "text": "前", "period": {"end": "2020"}},
        {"use": "home", "type": "postal", "text": "私書箱"},
        {"use": "temp", "text": "仮"},
    ]
    found = client(address=[*places, home])
    assert (found.postal_code, found.address) == ("000-0001", "東京都若葉市本町1")
    assert client(address=places).address == "仮"
    assert client(address=places[:2]).address == ""
    repeated = {"state": "東京都", "city": "若葉市", "line": ["東京都若葉市本町1"]}
    assert client(address=[repeated]).address == "東京都若葉市本町1"


def test_a_client_who_died_or_was_merged_into_another_record_is_not_active() -> None:
    assert client().active
    assert not client(active=False).active
    assert not client(deceasedBoolean=True).active
    assert not client(deceasedDateTime="2026-11-01").active
    assert not client(link=[{"type": "replaced-by", "other": {"reference": "Patient/2"}}]).active
    assert client(link=[{"type": "replaces", "other": {"reference": "Patient/2"}}]).active


def test_an_extension_that_may_change_the_meaning_of_a_record_is_refused() -> None:
    unknown = Unmappable("schema_unknown", {"detail": "Patient.modifierExtension"})
    assert refusal(modifierExtension=[{"url": "urn:x", "valueBoolean": True}]) == unknown


def test_an_element_that_nobody_knows_does_no_harm() -> None:
    assert client(futureElement={"a": [1]}, _birthDate={"id": "x"}) == client()


def test_a_role_tells_qualification_and_employment() -> None:
    found = staff(role(period={"start": "2020-04-01"}, active=True))
    assert found.qualification == "看護師"
    assert (found.employed_from, found.employed_until, found.active) == (date(2020, 4, 1), None, True)
    assert found.number == "0001"


def test_leaving_shows_as_a_role_that_is_off_or_that_ends() -> None:
    off = staff(role(active=False, period={"start": "2020-04-01", "end": "2021-03"}))
    assert (off.active, off.employed_until) == (False, date(2021, 3, 31))
    ends = staff(role(period={"start": "2020", "end": "2021-03-31T15:00:00Z"}))
    assert (ends.active, ends.employed_from, ends.employed_until) == (
        True,
        date(2020, 1, 1),
        date(2021, 4, 1),
    )
    assert not staff(role(), active=False).active


def test_of_several_roles_those_that_are_on_describe_the_person_whatever_their_order() -> None:
    roles = [
        role("r1", "医師", active=False, period={"start": "2001-04-01", "end": "2010-03-31"}),
        role("r3", "管理者", period={"start": "2022-04-01", "end": "2030-03-31"}),
        role("r2", "看護師", period={"start": "2015-04-01", "end": "2026-03-31"}),
    ]
    found = staff(*roles)
    assert found == staff(*reversed(roles))
    assert found.qualification == "看護師、管理者"
    assert (found.employed_from, found.employed_until) == (date(2015, 4, 1), date(2030, 3, 31))
    assert staff(*roles, role("r4", "看護師", period={"start": "2024"})).employed_until is None


def test_without_a_role_the_practitioner_speaks_for_itself() -> None:
    held = [{"code": {"coding": [{"code": "x"}]}}, {"code": {"coding": [{"display": "介護福祉士"}]}}]
    found = staff(qualification=held)
    assert (found.qualification, found.active) == ("介護福祉士", True)
    assert (found.employed_from, found.employed_until) == (None, None)
    assert staff(identifier=[]).number == ""
    assert staff(role(identifier=[{"system": STAFF_SYSTEM, "value": "77"}]), identifier=[]).number == "77"


def test_a_role_with_an_impossible_period_is_quarantined() -> None:
    content = {"practitioner": {"id": "s", "name": [KANJI]}, "roles": [role(period={"start": "soon"})]}
    field = {"field": "PractitionerRole.period.start"}
    assert map_record(Entity.STAFF, content, SETTINGS) == Unmappable("field_invalid", field)


JSON = st.recursive(
    st.sampled_from([None, True, 7, "", "x", "2020-01", "IDE", "phone"]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["use", "period", "end", "family", "given", "value", "system", "code", "id"]),
            inner,
        )
    ),
    max_leaves=8,
)
ELEMENTS = st.sampled_from(
    [
        "name",
        "telecom",
        "address",
        "identifier",
        "birthDate",
        "gender",
        "active",
        "link",
        "period",
        "code",
    ]
)


@given(st.dictionaries(ELEMENTS, JSON), st.dictionaries(ELEMENTS, JSON))
def test_no_record_however_broken_brings_the_mapping_down(one: dict[str, Any], two: dict[str, Any]) -> None:
    assert isinstance(map_record(Entity.CLIENT, patient(**one), SETTINGS), Client | Unmappable)
    content = {"practitioner": {"name": [KANJI], **one}, "roles": [two]}
    assert isinstance(map_record(Entity.STAFF, content, SETTINGS), Staff | Unmappable)


# --- The way out ---

ZONES = [UTC, timezone(timedelta(hours=9)), timezone(-timedelta(hours=5))]
STARTS = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
VISIT = Command(
    Entity.VISIT,
    Verb.CREATE,
    UUID("00000000-0000-4000-8000-000000000001"),
    1,
    "key",
    Visit(STARTS, STARTS + timedelta(hours=1), "112345", "玄関は開いています"),
    {Entity.CLIENT: "p1", Entity.STAFF: "s1"},
)
RECORD = replace(
    VISIT,
    entity=Entity.VISIT_RECORD,
    fields=VisitRecord(STARTS, STARTS + timedelta(minutes=55), "done", "変わりなし"),
    links={Entity.CLIENT: "p1", Entity.STAFF: "s1", Entity.VISIT: "a1"},
)


def test_a_visit_becomes_an_appointment_with_times_in_japans_offset() -> None:
    assert merged({}, VISIT, SETTINGS) == {
        "resourceType": "Appointment",
        "identifier": [{"system": "urn:zest:visit", "value": str(VISIT.record_id)}],
        "status": "booked",
        "start": "2026-11-24T09:30:00+09:00",
        "end": "2026-11-24T10:30:00+09:00",
        "comment": "玄関は開いています",
        "serviceType": [{"coding": [{"system": "urn:zest:service-code", "code": "112345"}]}],
        "participant": [
            {"actor": {"reference": "Patient/p1"}, "status": "accepted"},
            {"actor": {"reference": "Practitioner/s1"}, "status": "accepted"},
        ],
    }


def test_a_visit_without_staff_note_and_code_leaves_these_elements_out() -> None:
    bare = replace(VISIT, fields=replace(VISIT.fields, note=" ", service_code=""), links={Entity.CLIENT: "p1"})
    appointment = merged({}, bare, SETTINGS)
    assert not {"comment", "serviceType"} & set(appointment)
    assert [each["actor"]["reference"] for each in appointment["participant"]] == ["Patient/p1"]


def test_a_visit_record_becomes_an_encounter_at_home() -> None:
    assert merged({}, RECORD, SETTINGS) == {
        "resourceType": "Encounter",
        "identifier": [{"system": "urn:zest:visit-record", "value": str(RECORD.record_id)}],
        "status": "finished",
        "class": {
            "system": "http://terminology.hl7.org/CodeSystem/v3-ActCode",
            "code": "HH",
            "display": "home health",
        },
        "subject": {"reference": "Patient/p1"},
        "participant": [{"individual": {"reference": "Practitioner/s1"}}],
        "period": {"start": "2026-11-24T09:30:00+09:00", "end": "2026-11-24T10:25:00+09:00"},
        "appointment": [{"reference": "Appointment/a1"}],
        "extension": [
            {
                "url": "http://hl7.org/fhir/StructureDefinition/note",
                "valueAnnotation": {"text": "変わりなし"},
            }
        ],
    }


def test_an_absent_client_and_a_withdrawn_record_are_cancelled_encounters() -> None:
    absent = replace(RECORD, fields=VisitRecord(None, None, "absent", ""))
    encounter = merged({}, absent, SETTINGS)
    assert (encounter["status"], "period" in encounter, "extension" in encounter) == (
        "cancelled",
        False,
        False,
    )
    assert merged({}, replace(RECORD, verb=Verb.CANCEL), SETTINGS)["status"] == "cancelled"


def test_an_update_keeps_what_the_partner_added_and_replaces_what_is_ours() -> None:
    room = {"actor": {"reference": "Location/room"}, "status": "accepted"}
    copy = merged({}, VISIT, SETTINGS) | {"id": "a1", "priority": 3, "text": {"status": "generated"}}
    copy["participant"] = [*copy["participant"], room]
    copy["identifier"] = [{"system": "urn:partner", "value": "7"}, *copy["identifier"]]
    moved = replace(VISIT, verb=Verb.UPDATE, links={Entity.CLIENT: "p1", Entity.STAFF: "s2"})
    appointment = merged(copy, moved, SETTINGS)
    assert (appointment["priority"], appointment["id"], "text" in appointment) == (3, "a1", False)
    actors = [each["actor"]["reference"] for each in appointment["participant"]]
    assert actors == ["Location/room", "Patient/p1", "Practitioner/s2"]
    assert [each["value"] for each in appointment["identifier"]] == ["7", str(VISIT.record_id)]


@pytest.mark.parametrize("status", ["arrived", "checked-in", "fulfilled"])
def test_a_visit_that_is_further_on_at_the_partner_is_not_taken_back(status: str) -> None:
    copy = merged({}, VISIT, SETTINGS) | {"status": status}
    assert differing(copy, VISIT, SETTINGS) == ()
    assert merged(copy, VISIT, SETTINGS)["status"] == status
    assert merged(copy | {"status": "cancelled"}, VISIT, SETTINGS)["status"] == "booked"


@pytest.mark.parametrize("command", [VISIT, RECORD], ids=["visit", "record"])
def test_what_was_merged_differs_in_nothing_from_the_command(command: Command) -> None:
    for verb in Verb:
        acted = replace(command, verb=verb)
        assert differing(merged({}, acted, SETTINGS), acted, SETTINGS) == ()


PATIENT = {"actor": {"reference": "Patient/p1"}, "status": "accepted"}
NURSE = {"actor": {"reference": "Practitioner/s1"}, "status": "accepted"}


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"start": "2026-11-24T09:31:00+09:00"}, ("starts_at",)),
        ({"end": None}, ("ends_at",)),
        ({"serviceType": []}, ("service_code",)),
        ({"comment": "別の伝言"}, ("note",)),
        ({"status": "cancelled"}, ("status",)),
        ({"status": ["booked"]}, ("status",)),
        ({"participant": [{"actor": {"reference": "Patient/p2"}}, NURSE]}, ("client",)),
        ({"participant": [PATIENT]}, ("staff",)),
        ({"participant": [PATIENT, NURSE, {"actor": {"reference": "Practitioner/s2"}}]}, ("staff",)),
        ({"participant": []}, ("client", "staff")),
        ({"identifier": []}, ("record_id",)),
        ({"comment": "", "end": "soon"}, ("ends_at", "note")),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_each_field_that_an_appointment_says_otherwise_is_named(change: dict[str, Any], names: tuple[str, ...]) -> None:
    assert differing(merged({}, VISIT, SETTINGS) | change, VISIT, SETTINGS) == names


@pytest.mark.parametrize(
    ("change", "names"),
    [
        ({"period": {"end": "2026-11-24T10:25:00+09:00"}}, ("started_at",)),
        ({"period": {"start": "2026-11-24T09:30:00+09:00"}}, ("ended_at",)),
        ({"period": []}, ("started_at", "ended_at")),
        ({"status": "cancelled"}, ("status",)),
        ({"extension": []}, ("note",)),
        ({"class": {"code": "AMB"}}, ("class",)),
        ({"subject": {"reference": "Patient/p2"}}, ("client",)),
        ({"participant": []}, ("staff",)),
        ({"appointment": []}, ("visit",)),
        ({"identifier": []}, ("record_id",)),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else None,
)
def test_each_field_that_an_encounter_says_otherwise_is_named(change: dict[str, Any], names: tuple[str, ...]) -> None:
    assert differing(merged({}, RECORD, SETTINGS) | change, RECORD, SETTINGS) == names


@pytest.mark.parametrize("command", [VISIT, RECORD], ids=["visit", "record"])
def test_of_a_cancelled_record_nothing_but_its_being_cancelled_is_asked(command: Command) -> None:
    cancel = replace(command, verb=Verb.CANCEL)
    assert differing({"status": "entered-in-error"}, cancel, SETTINGS) == ()
    assert differing(merged({}, command, SETTINGS), cancel, SETTINGS) == ("status",)


@pytest.mark.parametrize("command", [VISIT, RECORD], ids=["visit", "record"])
def test_every_field_of_the_product_is_compared(command: Command) -> None:
    """A field that is added to the contract and forgotten in the comparison is seen here."""
    names = differing({}, command, SETTINGS)
    assert {field.name for field in fields(command.fields)} | set(command.links) <= set(names)


def test_another_spelling_of_the_same_makes_no_difference() -> None:
    copy = merged({}, VISIT, SETTINGS) | {
        "start": "2026-11-24T00:30:00.000Z",
        "end": "2026-11-23T19:30:00-06:00",
        "comment": "玄関は開いています\r\n",
        "participant": [
            {"actor": {"reference": "http://partner.example/fhir/Practitioner/s1/_history/3"}},
            {"actor": {"reference": "Location/room"}},
            {"actor": {"reference": "http://partner.example/fhir/Patient/p1"}},
        ],
    }
    assert differing(copy, VISIT, SETTINGS) == ()


@given(st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=9)), timezone(-timedelta(hours=5))])))
def test_a_time_goes_out_and_comes_back_as_the_same_moment(starts_at: datetime) -> None:
    command = replace(VISIT, fields=replace(VISIT.fields, starts_at=starts_at, ends_at=starts_at))
    assert differing(merged({}, command, SETTINGS), command, SETTINGS) == ()


@given(st.dictionaries(st.sampled_from([*merged({}, VISIT, SETTINGS), *merged({}, RECORD, SETTINGS)]), JSON))
def test_no_copy_however_broken_brings_the_comparison_down(copy: dict[str, Any]) -> None:
    assert differing(copy, VISIT, SETTINGS)
    assert differing(copy, RECORD, SETTINGS)
