"""The CapabilityStatement: what this server says it can do (`GET /metadata`, open to all)."""

from __future__ import annotations

from partners.fhir.sandbox.config import RESOURCE_TYPES, SandboxConfig
from partners.fhir.sandbox.index import DATE_PARAMETERS, REFERENCE_PARAMETERS
from partners.fhir.sandbox.outcome import Json
from partners.fhir.sandbox.search import known_parameters


def capability_statement(config: SandboxConfig, base: str) -> Json:
    """The statement for a server with these options at `base`."""
    return {
        "resourceType": "CapabilityStatement",
        "status": "active",
        "date": "2026-11-24",
        "kind": "instance",
        "software": {"name": "zest-pipelines FHIR sandbox"},
        "implementation": {"description": "A fictional record vendor for demos and tests", "url": base},
        "fhirVersion": "4.0.1",
        "format": ["application/fhir+json"],
        "rest": [
            {
                "mode": "server",
                "security": {"description": "Bearer token" if config.token else "none"},
                "interaction": [{"code": "batch"}, {"code": "transaction"}],
                "resource": [_resource(config, kind) for kind in RESOURCE_TYPES],
            }
        ],
    }


def _resource(config: SandboxConfig, kind: str) -> Json:
    codes = ["read", "vread", "search-type"]
    codes += [] if config.read_only else ["create", "update", "delete"]
    codes += ["history-instance", "history-type"] if config.history else []
    return {
        "type": kind,
        "interaction": [{"code": code} for code in codes],
        "versioning": "versioned-update",
        "readHistory": config.history,
        "updateCreate": config.update_create,
        "conditionalCreate": config.conditional_create,
        "conditionalUpdate": True,
        "conditionalDelete": "not-supported",
        "searchParam": [
            {"name": name, "type": _parameter_type(kind, name)}
            for name in known_parameters(kind)
            if name not in config.ignored_parameters
        ],
    }


def _parameter_type(kind: str, name: str) -> str:
    if name == "_lastUpdated" or name in DATE_PARAMETERS.get(kind, ()):
        return "date"
    return "reference" if name in REFERENCE_PARAMETERS.get(kind, ()) else "token"
