"""ORCA's calls: their names, paths, and what the limits call them. Source: the API pages of the ORCA organisation."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Api(StrEnum):
    """The calls, by their names in ORCA's documents."""

    PATIENT_NUMBERS = "patientlst1v2"
    PATIENTS = "patientlst2v2"
    PATIENT = "patientgetv2"
    SYSTEM = "system01lstv2"
    USERS = "manageusersv2"
    EVENTS = "pusheventgetv2"
    APPOINT = "appointmodv2"
    APPOINTMENTS = "appointlst2v2"
    ACCEPT = "acceptmodv2"
    ACCEPTANCES = "acceptlstv2"


@dataclass(frozen=True)
class Call:
    """Where a call goes."""

    path: str
    request: str
    """What the request is called; empty: it has no body."""
    endpoint: str
    """What the limits call it."""


CALLS: Mapping[Api, Call] = {
    Api.PATIENT_NUMBERS: Call("api01rv2/patientlst1v2", "patientlst1req", "patients"),
    Api.PATIENTS: Call("api01rv2/patientlst2v2", "patientlst2req", "patients"),
    Api.PATIENT: Call("api01rv2/patientgetv2", "", "patients"),
    Api.SYSTEM: Call("api01rv2/system01lstv2", "system01_managereq", "staff"),
    Api.USERS: Call("orca101/manageusersv2", "manageusersreq", "staff"),
    Api.EVENTS: Call("api01rv2/pusheventgetv2", "pusheventgetv2req", "events"),
    Api.APPOINT: Call("orca14/appointmodv2", "appointreq", "appointments"),
    Api.APPOINTMENTS: Call("api01rv2/appointlst2v2", "appointlst2req", "appointments"),
    Api.ACCEPT: Call("orca11/acceptmodv2", "acceptreq", "acceptances"),
    Api.ACCEPTANCES: Call("api01rv2/acceptlstv2", "acceptlstreq", "acceptances"),
}
ENDPOINTS = tuple(dict.fromkeys(call.endpoint for call in CALLS.values()))
"""What the limits call the calls."""
