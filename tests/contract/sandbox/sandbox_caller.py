"""A caller of a running sandbox, and the records that the tests send."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx

from partners.fhir.sandbox import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox

Json = dict[str, Any]
SYSTEM = "urn:zest:visit"
FHIR = {"content-type": "application/fhir+json"}


@dataclass(frozen=True)
class Caller:
    """What a connector can do, without any of its care."""

    sandbox: RunningSandbox
    http: httpx.Client

    def get(self, path: str, **params: str | int) -> httpx.Response:
        return self.http.get(path, params=params or None)

    def create(self, resource: Json, **headers: str) -> httpx.Response:
        return self.http.post(resource["resourceType"], json=resource, headers=FHIR | dashed(headers))

    def update(self, resource: Json, **headers: str) -> httpx.Response:
        path = f"{resource['resourceType']}/{resource['id']}"
        return self.http.put(path, json=resource, headers=FHIR | dashed(headers))

    def delete(self, path: str, **headers: str) -> httpx.Response:
        return self.http.delete(path, headers=dashed(headers))

    def bundle(self, kind: str, *entries: Json) -> httpx.Response:
        """POST a batch or a transaction of `entries`."""
        content = {"resourceType": "Bundle", "type": kind, "entry": list(entries)}
        return self.http.post("/", json=content, headers=FHIR)

    def ids(self, page: httpx.Response) -> list[str]:
        """The ids of a search's page, in its order."""
        return [entry["resource"]["id"] for entry in page.json().get("entry", [])]

    def put(self, kind: str, record_id: str, **fields: Any) -> Json:
        """A record that the partner's own people made."""
        return self.sandbox.put({"resourceType": kind, "id": record_id, **fields})


@contextmanager
def calling(config: SandboxConfig | None = None, token: str | None = None) -> Iterator[Caller]:
    """A caller of a sandbox of its own, which shows `token` if one is given."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    with (
        running_sandbox(config) as sandbox,
        httpx.Client(base_url=sandbox.url, headers=headers, timeout=10, trust_env=False) as http,
    ):
        yield Caller(sandbox, http)


def patient(record_id: str | None = None, number: str = "00000001", **fields: Any) -> Json:
    """A fictional client."""
    own = {"identifier": [{"system": "urn:zest:patient", "value": number}]}
    return {"resourceType": "Patient"} | ({} if record_id is None else {"id": record_id}) | own | fields


def appointment(client: str, key: str = "k1", **fields: Any) -> Json:
    """A visit to `client` (an id) under our business key `key`."""
    return {
        "resourceType": "Appointment",
        "identifier": [{"system": SYSTEM, "value": key}],
        "status": "booked",
        "start": "2026-11-24T09:00:00+09:00",
        "end": "2026-11-24T10:00:00+09:00",
        "participant": [{"actor": {"reference": f"Patient/{client}"}, "status": "accepted"}],
        **fields,
    }


def link(page: httpx.Response, relation: str) -> str | None:
    """The address of a link of a Bundle."""
    return next((each["url"] for each in page.json()["link"] if each["relation"] == relation), None)


def issue_codes(answer: httpx.Response) -> list[str]:
    """The codes of an OperationOutcome."""
    content = answer.json()
    assert content["resourceType"] == "OperationOutcome"
    return [issue["code"] for issue in content["issue"]]


def wait_until(holds: Callable[[], bool]) -> None:
    """Poll, for at most 10 s."""
    end = time.monotonic() + 10
    while not holds():
        assert time.monotonic() < end, "it did not come true in time"
        time.sleep(0.01)


def dashed(headers: dict[str, str]) -> dict[str, str]:
    """Header names as keywords are written: if_match for If-Match."""
    return {name.replace("_", "-"): value for name, value in headers.items()}
