"""The example resources of JP Core, served by the sandbox, read and mapped: what a real record looks like."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date

import httpx
import pytest
from jp_core_examples import EXAMPLES, NEEDS_EXAMPLES, SETTINGS, put_examples

from partners.contract import Client, Connection, Connector, Entity, Staff
from partners.fhir.partner import FHIR
from partners.fhir.sandbox.testing import running_sandbox
from partners.throttling import Told

pytestmark = NEEDS_EXAMPLES


class OpenGate:
    def admit(self, endpoint: str) -> None:
        """Admit everything."""

    def leave(self) -> None:
        """In time."""

    def unheard(self) -> None:
        """Nobody counts what is under way."""

    def heard(self, endpoint: str, told: Told) -> None:
        """Nothing to learn."""


@pytest.fixture(scope="module")
def connector() -> Iterator[Connector]:
    with running_sandbox() as sandbox, httpx.Client(trust_env=False) as client:
        put_examples(sandbox)
        yield FHIR.open(Connection("t", "fhir", sandbox.url, SETTINGS), {}, client, OpenGate())


def read(connector: Connector, entity: Entity) -> dict[str, object]:
    records = [record for page in connector.read(entity, None) for record in page.records]
    return {record.partner_id: FHIR.map(entity, record.content, SETTINGS) for record in records}


def test_there_are_ten_examples() -> None:
    assert len(list(EXAMPLES.glob("*.json"))) == 10


def test_the_patient_has_kanji_kana_birth_date_and_number(connector: Connector) -> None:
    assert read(connector, Entity.CLIENT) == {
        "jp-patient-example-1": Client(
            number="00000010",
            family_name="山田",
            given_name="太郎",
            family_kana="ヤマダ",
            given_kana="タロウ",
            birth_date="1970-01-01",
            sex="male",
            postal_code="1600023",
            address="東京都新宿区",
            phone="0312345678",
            active=True,
        )
    }


@pytest.mark.parametrize(
    ("example", "kanji", "kana", "number"),
    [
        ("female-1", ("東京", "春子"), ("トウキョウ", "ハルコ"), ""),
        ("female-2", ("福岡", "花子"), ("フクオカ", "ハナコ"), ""),
        ("male-1", ("大阪", "一郎"), ("オオサカ", "イチロウ"), "23"),
        # Its kana contradicts its own text: dirt of a kind that only a person can settle, taken over as it stands.
        ("male-2", ("愛知", "太郎"), ("チバ", "タロウ"), ""),
    ],
)
def test_a_practitioner_has_kanji_kana_and_the_number_of_its_role(
    connector: Connector, example: str, kanji: tuple[str, str], kana: tuple[str, str], number: str
) -> None:
    found = read(connector, Entity.STAFF)[f"jp-practitioner-example-{example}"]
    assert isinstance(found, Staff)
    assert (found.family_name, found.given_name) == kanji
    assert (found.family_kana, found.given_kana) == kana
    assert (found.number, found.active) == (number, True)


def test_the_role_tells_how_long_its_holder_was_employed(connector: Connector) -> None:
    employed = {
        key: (found.employed_from, found.employed_until)
        for key, found in read(connector, Entity.STAFF).items()
        if isinstance(found, Staff) and found.employed_from
    }
    assert employed == {"jp-practitioner-example-male-1": (date(2012, 1, 1), date(2012, 3, 31))}


def test_the_other_examples_are_no_masters(connector: Connector) -> None:
    assert len(read(connector, Entity.CLIENT)) == 1
    assert len(read(connector, Entity.STAFF)) == 4
