"""A FHIR R4 server that plays an electronic-record vendor, for demos and tests.

It is a partner with a memory, a log and a temper: it keeps versions, tells afterwards what it was asked and what it
did, and fails on demand in every way that a connector must survive. It is no FHIR validator and not for patient data.
"""

from partners.fhir.sandbox.app import create_app
from partners.fhir.sandbox.config import Limit, SandboxConfig
from partners.fhir.sandbox.dialects import Dialect
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.limit_rules import FixedRule, InFlightRule, LeakyRule, SlidingRule
from partners.fhir.sandbox.persistence import StateFileError
from partners.fhir.sandbox.server import PortInUseError, run, serve

__all__ = [
    "Dialect",
    "FaultKind",
    "FaultRule",
    "FixedRule",
    "InFlightRule",
    "LeakyRule",
    "Limit",
    "PortInUseError",
    "SandboxConfig",
    "SlidingRule",
    "StateFileError",
    "create_app",
    "run",
    "serve",
]
