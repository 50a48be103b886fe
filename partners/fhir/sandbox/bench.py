"""What the certification needs of a FHIR server, at the sandbox."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

from partners.certification.bench import Bench, Sizes
from partners.contract import Command, Entity, Verb, Visit
from partners.fhir.partner import FHIR
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox

_PAGE = 10
_KINDS: Mapping[Entity, str] = {Entity.CLIENT: "Patient", Entity.STAFF: "Practitioner"}
_SCRIPT = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


class FhirBench(Bench):
    """A sandbox whose pages are short, so that readings have several."""

    partner = FHIR
    secret: Mapping[str, str] = {"token": "a-token"}
    wrong_secret: Mapping[str, str] = {"token": "another"}
    batch_settings: Mapping[str, str] = {"batch_size": "9"}
    sizes = {entity: Sizes(page=_PAGE, cap=3 * _PAGE) for entity in _KINDS}  # noqa: RUF012  # nobody changes it

    def __init__(self, sandbox: RunningSandbox, config: SandboxConfig) -> None:
        self._sandbox, self.url = sandbox, sandbox.url
        self._systems = {
            Entity.CLIENT: config.patient_identifier_system,
            Entity.STAFF: config.staff_identifier_system,
        }
        self.settings = {
            "patient_identifier_system": config.patient_identifier_system,
            "staff_identifier_system": config.staff_identifier_system,
        }

    def visit(self) -> Command:
        """As Bench."""
        links = {entity: (self._ids(entity) or sorted(self.hold(entity, 1)))[0] for entity in _KINDS}
        starts = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
        fields = Visit(starts, starts + timedelta(hours=1), "112345", "玄関は開いています")
        return Command(Entity.VISIT, Verb.CREATE, uuid4(), 1, str(uuid4()), fields, links)

    def refused_visit(self) -> Command:
        """Of nobody's."""
        planned = self.visit()
        return Command(planned.entity, planned.verb, uuid4(), 1, planned.key, planned.fields, {Entity.CLIENT: "nobody"})

    def copies(self, command: Command) -> Sequence[object]:
        """As Bench."""
        return self._appointments(command)

    def edit_copy(self, command: Command) -> None:
        """As Bench."""
        self._sandbox.put(self._appointments(command)[0] | {"comment": "電話あり"})

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """As Bench."""
        wanted = {f"{entity}-{number}": number for number in range(1, count + 1)}
        for left in set(self._ids(entity)) - set(wanted):
            self.remove(entity, left)
        for partner_id, number in wanted.items():
            self._sandbox.put(self._person(entity, partner_id, number))
        return set(wanted)

    def change(self, entity: Entity, ids: Collection[str]) -> None:
        """As near to each other as its clock, which always goes on, allows."""
        for partner_id in ids:
            self._sandbox.put(self._person(entity, partner_id, 1) | {"gender": "unknown"})

    def remove(self, entity: Entity, partner_id: str) -> None:
        """As Bench."""
        self._sandbox.delete(_KINDS[entity], partner_id)

    def spoil(self, entity: Entity, partner_id: str) -> None:
        """As Bench."""
        spoilt = {"name": [{"family": "\u0000", "given": [""]}], "birthDate": "1925-13-45", "gender": 7, "active": "no"}
        self._sandbox.put({"resourceType": _KINDS[entity], "id": partner_id, **spoilt, "identifier": [{"value": {}}]})

    def throttle(self) -> None:
        """As Bench."""
        self._sandbox.set_faults({"kind": "status", "status": 403, "code": "throttled", "retry_after": 3})

    def reject_batch(self, command: Command) -> None:
        """As Bench."""
        self._sandbox.set_faults({"kind": "batch_status", "identifier": str(command.record_id), "status": 422})

    def heal(self) -> None:
        """As Bench."""
        self._sandbox.clear_faults()

    def _ids(self, entity: Entity) -> list[str]:
        return [each["id"] for each in self._sandbox.state(_KINDS[entity])]

    def _appointments(self, command: Command) -> list[dict[str, Any]]:
        value = str(command.record_id)
        return [each for each in self._sandbox.state("Appointment") if each["identifier"][0]["value"] == value]

    def _person(self, entity: Entity, partner_id: str, number: int) -> dict[str, Any]:
        names = [("IDE", "森", "梅"), ("SYL", "モリ", "ウメ")]
        return {
            "resourceType": _KINDS[entity],
            "id": partner_id,
            "identifier": [{"system": self._systems[entity], "value": f"{number:08}"}],
            "active": True,
            "name": [
                {"extension": [{"url": _SCRIPT, "valueCode": script}], "family": family, "given": [given]}
                for script, family, given in names
            ],
            "gender": "female",
            "birthDate": "1950-01-01",
        }


@contextmanager
def running_bench() -> Iterator[Bench]:
    """A bench at a sandbox of its own."""
    config = SandboxConfig(token="a-token", clients=3, staff=3, max_count=_PAGE)  # noqa: S106  # made up
    with running_sandbox(config) as sandbox:
        yield FhirBench(sandbox, config)
