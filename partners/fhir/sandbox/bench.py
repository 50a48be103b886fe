"""What the certification needs of a FHIR server, at the sandbox."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from uuid import uuid4

from partners.certification.bench import Bench, Sizes
from partners.contract import Client, Command, Entity, Json, Master, Staff, Verb, Visit
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
        return self._stored(command)

    def said(self, command: Command) -> Sequence[Mapping[str, object]]:
        """What its Appointments and Encounters say."""
        tell = _appointment if command.entity is Entity.VISIT else _encounter
        return [tell(each) for each in self._stored(command)]

    def edit_copy(self, command: Command) -> None:
        """As Bench."""
        self._sandbox.put(self._stored(command)[0] | {"comment": "電話あり"})

    def hold(self, entity: Entity, count: int) -> Collection[str]:
        """As Bench."""
        wanted = {f"{entity}-{number}": number for number in range(1, count + 1)}
        for left in set(self._ids(entity)) - set(wanted):
            self.remove(entity, left)
        for partner_id, number in wanted.items():
            self._sandbox.put(self._person(entity, partner_id, number))
        return set(wanted)

    def people(self, entity: Entity) -> Mapping[str, Master]:
        """One with all that can be said, one who has left, one of whom little is known."""
        self.hold(entity, 0)
        whole, left, scant = (self._person(entity, f"{entity}-{number}", number) for number in (1, 2, 3))
        left |= {"name": [_name("IDE", "大野", "健一"), _name("SYL", "オオノ", "ケンイチ")], "active": False}
        left |= {"gender": "male", "birthDate": "1948-02"}
        scant["name"] = [{"family": "林", "given": ["桜"]}]
        del scant["gender"], scant["birthDate"], scant["active"]
        place = {"postalCode": "160-0023", "text": "東京都新宿区西新宿1-1"}
        if entity is Entity.CLIENT:
            whole |= {"address": [place], "telecom": [{"system": "phone", "value": "03-0000-0001"}]}
        for each in (whole, left, scant):
            self._sandbox.put(each)
        if entity is Entity.CLIENT:
            said = ("160-0023", "東京都新宿区西新宿1-1", "03-0000-0001")
            return {
                "client-1": Client("00000001", "森", "梅", "モリ", "ウメ", "1950-01-01", "female", *said, active=True),
                "client-2": Client(
                    "00000002", "大野", "健一", "オオノ", "ケンイチ", "1948-02", "male", "", "", "", active=False
                ),
                "client-3": Client("00000003", "林", "桜", "", "", "", "unknown", "", "", "", active=True),
            }
        period = {"start": "2020-04-01", "end": "2027-03-31"}
        employed = {
            "code": [{"text": "看護師"}],
            "period": period,
            "practitioner": {"reference": "Practitioner/staff-1"},
        }
        self._sandbox.put({"resourceType": "PractitionerRole", "id": "role-1", "active": True, **employed})
        days = (date(2020, 4, 1), date(2027, 3, 31))
        return {
            "staff-1": Staff("00000001", "森", "梅", "モリ", "ウメ", "看護師", *days, active=True),
            "staff-2": Staff("00000002", "大野", "健一", "オオノ", "ケンイチ", "", None, None, active=False),
            "staff-3": Staff("00000003", "林", "桜", "", "", "", None, None, active=True),
        }

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

    def _stored(self, command: Command) -> list[Json]:
        value = str(command.record_id)
        kind = "Appointment" if command.entity is Entity.VISIT else "Encounter"
        return [each for each in self._sandbox.state(kind) if each["identifier"][0]["value"] == value]

    def _person(self, entity: Entity, partner_id: str, number: int) -> Json:
        return {
            "resourceType": _KINDS[entity],
            "id": partner_id,
            "identifier": [{"system": self._systems[entity], "value": f"{number:08}"}],
            "active": True,
            "name": [_name("IDE", "森", "梅"), _name("SYL", "モリ", "ウメ")],
            "gender": "female",
            "birthDate": "1950-01-01",
        }


def _name(script: str, family: str, given: str) -> Json:
    return {"extension": [{"url": _SCRIPT, "valueCode": script}], "family": family, "given": [given]}


def _appointment(told: Json) -> dict[str, object]:
    people = [each["actor"]["reference"].split("/") for each in told["participant"]]
    services = [each["coding"][0]["code"] for each in told.get("serviceType", [])]
    return {
        "status": told["status"],
        "starts_at": datetime.fromisoformat(told["start"]),
        "ends_at": datetime.fromisoformat(told["end"]),
        "service_code": ",".join(services),
        "note": told.get("comment", ""),
        "client": ",".join(each for kind, each in people if kind == "Patient"),
        "staff": ",".join(each for kind, each in people if kind == "Practitioner"),
    }


def _encounter(told: Json) -> dict[str, object]:
    period, staff = told.get("period", {}), [each["individual"]["reference"] for each in told.get("participant", [])]
    return {
        "status": {"finished": "done"}.get(told["status"], told["status"]),
        "started_at": datetime.fromisoformat(period["start"]) if "start" in period else None,
        "ended_at": datetime.fromisoformat(period["end"]) if "end" in period else None,
        "note": "".join(each["valueAnnotation"]["text"] for each in told.get("extension", [])),
        "client": told["subject"]["reference"].removeprefix("Patient/"),
        "staff": ",".join(staff).replace("Practitioner/", ""),
        "visit": ",".join(each["reference"] for each in told.get("appointment", [])).replace("Appointment/", ""),
    }


@contextmanager
def running_bench() -> Iterator[Bench]:
    """A bench at a sandbox of its own."""
    config = SandboxConfig(token="a-token", clients=3, staff=3, max_count=_PAGE)  # noqa: S106  # made up
    with running_sandbox(config) as sandbox:
        yield FhirBench(sandbox, config)
