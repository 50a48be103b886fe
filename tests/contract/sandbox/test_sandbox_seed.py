"""The seeded people: the same for the same seed, and irregular in every way that a mapping must bear."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import cache
from typing import Any

import pytest
from sandbox_caller import Json, calling

from partners.fhir.sandbox import SandboxConfig

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
KINDS = ("Organization", "Patient", "Practitioner", "PractitionerRole")


def people(**options: Any) -> dict[str, list[Json]]:
    with calling(SandboxConfig(**options)) as caller:
        return {kind: caller.sandbox.state(kind) for kind in KINDS}


def timeless(everybody: dict[str, list[Json]]) -> list[Json]:
    rows = [dict(row) for kind in KINDS for row in everybody[kind]]
    for row in rows:
        del row["meta"]
    return rows


@cache
def clients(seed: int) -> list[Json]:
    return people(clients=25, seed=seed)["Patient"]


def scripts(row: Json) -> list[str]:
    return [name["extension"][0]["valueCode"] for name in row["name"]]


@pytest.fixture(scope="module")
def everybody() -> dict[str, list[Json]]:
    return people(clients=50, staff=16, seed=3)


def test_two_runs_of_one_seed_are_equal_and_of_another_are_not(everybody: dict[str, list[Json]]) -> None:
    assert timeless(people(clients=50, staff=16, seed=3)) == timeless(everybody)
    assert timeless(people(clients=50, staff=16, seed=4)) != timeless(everybody)


def test_all_that_was_asked_for_is_there(everybody: dict[str, list[Json]]) -> None:
    assert {kind: len(rows) for kind, rows in everybody.items()} == {
        "Organization": 1,
        "Patient": 50,
        "Practitioner": 16,
        "PractitionerRole": 16,
    }
    assert len({row["id"] for rows in everybody.values() for row in rows}) == 83


@pytest.mark.parametrize("seed", [1, 2, 25])
@pytest.mark.parametrize(
    "is_so",
    [
        lambda row: scripts(row) == ["IDE"],
        lambda row: scripts(row) == ["SYL"],
        lambda row: scripts(row) == ["SYL", "IDE"],
        lambda row: scripts(row) == ["IDE", "SYL"],
        lambda row: len(row["birthDate"]) == 4,
        lambda row: len(row["birthDate"]) == 7,
        lambda row: "telecom" not in row,
        lambda row: row["active"] is False,
        lambda row: any(name["family"] in ("髙橋", "山﨑") for name in row["name"]),
    ],
    ids=["kanji alone", "kana alone", "kana first", "kanji first", "year", "month", "no phone", "inactive", "variant"],
)
def test_any_twenty_five_clients_hold_each_irregularity(seed: int, is_so: Any) -> None:
    assert any(is_so(row) for row in clients(seed))


def test_numbers_are_the_institutions_and_the_systems_can_be_configured(everybody: dict[str, list[Json]]) -> None:
    (number,) = everybody["Patient"][0]["identifier"]
    assert number == {"system": "urn:oid:1.2.392.100495.20.3.51.11311234567", "value": "00000001"}
    other = people(clients=1, staff=1, patient_identifier_system="urn:p", staff_identifier_system="urn:s")
    assert other["Patient"][0]["identifier"][0]["system"] == "urn:p"
    assert other["Practitioner"][0]["identifier"][0]["system"] == "urn:s"


def test_each_member_of_staff_has_one_role_and_some_have_left(everybody: dict[str, list[Json]]) -> None:
    staff = {f"Practitioner/{row['id']}" for row in everybody["Practitioner"]}
    roles = everybody["PractitionerRole"]
    assert {role["practitioner"]["reference"] for role in roles} == staff
    left = [role for role in roles if not role["active"]]
    assert len(left) == 2
    assert all(role["period"]["start"] < role["period"]["end"] for role in left)
    assert all("end" not in role["period"] for role in roles if role["active"])


def test_nobody_can_be_reached_by_what_is_made_up(everybody: dict[str, list[Json]]) -> None:
    for row in everybody["Patient"]:
        assert row["address"][0]["postalCode"].startswith("000-")
        assert all("-0000-" in telecom["value"] for telecom in row.get("telecom", ()))
    for row in everybody["Practitioner"]:
        assert row["telecom"][1]["value"].endswith("@example.jp")


def test_they_were_all_changed_before_now_and_one_after_the_other(everybody: dict[str, list[Json]]) -> None:
    stamps = sorted(row["meta"]["lastUpdated"] for rows in everybody.values() for row in rows)
    assert len(set(stamps)) == len(stamps)
    assert stamps[-1] < datetime.now(UTC).isoformat()
