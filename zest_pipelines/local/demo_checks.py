"""What Dagster itself shows of its asset checks, asked as the UI asks it: over GraphQL, from the webserver."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import httpx

_DECLARED = """
{ assetNodes {
  assetKey { path }
  partitionDefinition { dimensionTypes { name } }
  assetChecksOrError { ... on AssetChecks { checks { name } } }
} }
"""
_NEWEST = """
query Newest($asset: AssetKeyInput!, $check: String!, $tenant: String!) {
  assetCheckExecutions(assetKey: $asset, checkName: $check, partition: $tenant, limit: 10) { status }
}
"""
_SECONDS = 20.0


@dataclass(frozen=True)
class Checks:
    """The newest answer of every check for every tenant."""

    passed: int
    failed: tuple[str, ...]
    """Asset, check and tenant."""
    missing: int
    """Checks that have not been evaluated for a tenant yet."""


_NO_PART_OF_A_CYCLE = ("certificate_lasts", "nothing_held_back", "projection_agrees")
"""Answered when something is wrong, or once a night."""
_ANSWERS = ("SUCCEEDED", "FAILED")
"""All else is a run under way, or one that was cut off before it could answer."""


def read_checks(ui: str, partners: Mapping[str, Collection[str]]) -> Checks:
    """The answers of each tenant's checks; `partners` has the partners of each. Raises httpx.HTTPError."""
    with httpx.Client(base_url=ui, timeout=_SECONDS, trust_env=False) as client:
        answers = {
            f"{'/'.join(path)} {check} {tenant}": _newest(client, path, check, tenant)
            for path, check in _declared(client)
            for tenant, names in partners.items()
            if path[0] in names
        }
    return Checks(
        passed=sum(status == "SUCCEEDED" for status in answers.values()),
        failed=tuple(name for name, status in answers.items() if status == "FAILED"),
        missing=sum(status is None for status in answers.values()),
    )


def _declared(client: httpx.Client) -> Iterator[tuple[list[str], str]]:
    """Of the assets that go by tenant; a week of a tenant has none before a person asks for it."""
    for node in _ask(client, _DECLARED)["assetNodes"]:
        if len(node["partitionDefinition"]["dimensionTypes"]) > 1:
            continue
        for check in node["assetChecksOrError"].get("checks", []):
            if check["name"] not in _NO_PART_OF_A_CYCLE:
                yield node["assetKey"]["path"], check["name"]


def _newest(client: httpx.Client, path: list[str], check: str, tenant: str) -> str | None:
    variables = {"asset": {"path": path}, "check": check, "tenant": tenant}
    found = _ask(client, _NEWEST, variables)["assetCheckExecutions"]
    return next((each["status"] for each in found if each["status"] in _ANSWERS), None)


def _ask(client: httpx.Client, query: str, variables: dict[str, Any] | None = None) -> Any:
    answer = client.post("/graphql", json={"query": query, "variables": variables or {}})
    return answer.raise_for_status().json()["data"]
