"""What stands in the elements of FHIR's resources, as support may see it (HL7 FHIR R4).

`code`, `system`, `id` and the like may be shown wherever they stand; what people write, nowhere.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from partners.contract import FieldKind

_FIELDS: Mapping[FieldKind, Iterable[str]] = {
    FieldKind.OPEN: (
        *("resourceType", "lastUpdated", "status", "system", "code", "severity", "expression", "location", "type"),
        *(
            "use",
            "total",
            "relation",
            "mode",
            "start",
            "end",
            "url",
            "method",
            "etag",
            "outcome",
            "created",
            "priority",
        ),
    ),
    FieldKind.ID: ("id", "versionId", "reference"),
    FieldKind.NAME: ("family", "given", "name.text", "display"),
    FieldKind.BIRTH_DATE: ("birthDate", "deceasedDateTime"),
    FieldKind.ADDRESS: ("line", "city", "district", "state", "postalCode", "address.text"),
    FieldKind.PHONE: ("telecom.value",),
    FieldKind.NUMBER: ("identifier.value",),
    FieldKind.NOTE: ("text", "diagnostics", "comment", "description", "div", "note"),
}
SHOWN: Mapping[str, FieldKind] = {name: kind for kind, names in _FIELDS.items() for name in names}
