"""What stands in the elements of FHIR's resources, as support may see it (HL7 FHIR R4).

Codes, systems, ids and the like may be shown wherever they stand, if they are of the vocabularies below; what people
write, nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping

from partners.contract import FieldKind, Shown
from partners.fhir.codes import ELEMENTS, ISSUES

_RESOURCES = (
    *("Patient", "Practitioner", "PractitionerRole", "Appointment", "Encounter", "Bundle", "Organization", "Location"),
    "Slot",
)
_WORDS = (
    *ISSUES,
    *("fatal", "error", "warning", "information"),
    *("proposed", "pending", "booked", "arrived", "fulfilled", "cancelled", "noshow", "entered-in-error", "checked-in"),
    *("waitlist", "accepted", "declined", "tentative", "needs-action", "planned", "in-progress", "onleave", "finished"),
    *("searchset", "transaction", "transaction-response", "batch", "batch-response", "collection", "match", "include"),
    *("self", "next", "previous", "first", "last", "GET", "POST", "PUT", "PATCH", "DELETE"),
    *("phone", "fax", "email", "pager", "sms", "other", "home", "work", "temp", "old", "mobile", "official", "usual"),
    *("nickname", "anonymous", "maiden", "secondary", "HH", "AMB", "IMP", "PPRF", "SPRF", "ATND", "SBJ", "ABC", "SYL"),
    *("IDE", *_RESOURCES, "OperationOutcome", "HealthcareService", "Coverage", "CapabilityStatement", "Parameters"),
)
_CODE = re.compile(rf"{'|'.join(map(re.escape, sorted(_WORDS)))}|\d{{1,6}}", re.ASCII)
_ROOTS = r"(https?://(hl7\.org|terminology\.hl7\.org|jpfhir\.jp)/|urn:(oid|zest|iso):)"
_SYSTEM = re.compile(rf"{_CODE.pattern}|{_ROOTS}[A-Za-z0-9.:/#_-]{{1,90}}", re.ASCII)
_RESOURCE = f"({'|'.join(_RESOURCES)})"
_PATH = re.compile(rf"{_RESOURCE}{ELEMENTS}|[a-z]{{1,20}}\[\d{{1,3}}\]", re.ASCII)
_URL = re.compile(rf"{_RESOURCE}(/[0-9a-f-]{{36}})?", re.ASCII)

_FIELDS: Mapping[FieldKind | re.Pattern[str], Iterable[str]] = {
    _CODE: (
        *("resourceType", "status", "code", "severity", "type", "use", "relation", "mode", "method", "outcome"),
        "priority",
    ),
    _SYSTEM: ("system",),
    _PATH: ("expression", "location"),
    _URL: ("url",),
    FieldKind.OPEN: ("lastUpdated", "total", "start", "end", "etag", "created"),
    FieldKind.ID: ("id", "versionId", "reference"),
    FieldKind.NAME: ("family", "given", "name.text", "display"),
    FieldKind.BIRTH_DATE: ("birthDate", "deceasedDateTime"),
    FieldKind.ADDRESS: ("line", "city", "district", "state", "postalCode", "address.text"),
    FieldKind.PHONE: ("telecom.value",),
    FieldKind.NUMBER: ("identifier.value",),
    FieldKind.NOTE: ("text", "diagnostics", "comment", "description", "div", "note"),
}
SHOWN: Shown = {name: kind for kind, names in _FIELDS.items() for name in names}
