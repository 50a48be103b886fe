"""The control endpoints under `/_sandbox/`: the hand of a test or a demo on the vendor's side.

They are no part of FHIR, are not logged, not limited and need no token; they answer callers on loopback only.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from partners.fhir.sandbox.config import RESOURCE_TYPES
from partners.fhir.sandbox.faults import parse_rules
from partners.fhir.sandbox.vendor import Vendor

_LOOPBACK = frozenset({"127.0.0.1", "::1", "testclient"})

Endpoint = Callable[[Request], Awaitable[Response]]


def control_routes(vendor: Vendor) -> Sequence[BaseRoute]:
    """The routes below `/_sandbox`."""
    control = _Control(vendor)
    return [
        Route("/health", _guarded(control.health), methods=["GET"]),
        Route("/limits", _guarded(control.limits), methods=["GET"]),
        Route("/journal", _guarded(control.journal), methods=["GET"]),
        Route("/state/{kind}", _guarded(control.state), methods=["GET"]),
        Route("/faults", _guarded(control.faults), methods=["GET"]),
        Route("/faults", _guarded(control.add_faults), methods=["POST"]),
        Route("/faults", _guarded(control.clear_faults), methods=["DELETE"]),
        Route("/resource", _guarded(control.put_resource), methods=["PUT"]),
        Route("/resource/{kind}/{id}", _guarded(control.delete_resource), methods=["DELETE"]),
        Route("/tokens", _guarded(control.tokens), methods=["GET"]),
        Route("/tokens", _guarded(control.revoke_tokens), methods=["DELETE"]),
        Route("/config", _guarded(control.configure), methods=["POST"]),
    ]


def _guarded(endpoint: Endpoint) -> Endpoint:
    """The endpoint for callers on loopback; a ValueError in it is the caller's fault."""

    async def guarded(request: Request) -> Response:
        if request.client is None or request.client.host not in _LOOPBACK:
            return JSONResponse({"error": "loopback only"}, 403)
        try:
            return await endpoint(request)
        except ValueError as error:  # bad JSON and pydantic's errors are ValueErrors
            return JSONResponse({"error": str(error)}, 400)

    return guarded


class _Control:
    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    async def health(self, _: Request) -> Response:
        vendor = self._vendor
        counts = vendor.limits.counts("limit")
        return JSONResponse(
            {
                "status": "ok",
                "resources": {kind: len(vendor.store.by_update(kind)) for kind in RESOURCE_TYPES},
                "journal": vendor.journal.last,
                "faults": len(vendor.faults.as_json()),
                "limit": {"admitted": counts.admitted, "refused": counts.refused, "peak": counts.peak},
                "limits": vendor.limits.summary(),
            }
        )

    async def limits(self, _: Request) -> Response:
        return JSONResponse(self._vendor.limits.detail())

    async def journal(self, request: Request) -> Response:
        return JSONResponse(self._vendor.journal.after(int(request.query_params.get("after", "0"))))

    async def state(self, request: Request) -> Response:
        rows = self._vendor.store.by_update(_kind(request.path_params["kind"]))
        return JSONResponse([row.resource for row in rows])

    async def faults(self, _: Request) -> Response:
        return JSONResponse(self._vendor.faults.as_json())

    async def add_faults(self, request: Request) -> Response:
        self._vendor.faults.add(parse_rules(await request.json()))
        return JSONResponse(self._vendor.faults.as_json())

    async def clear_faults(self, _: Request) -> Response:
        self._vendor.faults.clear()
        return Response(status_code=204)

    async def put_resource(self, request: Request) -> Response:
        resource = _object(await request.json())
        id = resource.get("id")
        if not isinstance(id, str) or not id:
            raise ValueError("the resource needs an id")
        _kind(resource.get("resourceType"))
        return JSONResponse(self._vendor.store.save(resource, id).resource)

    async def delete_resource(self, request: Request) -> Response:
        kind, id = _kind(request.path_params["kind"]), request.path_params["id"]
        if self._vendor.store.live(kind, id) is None:
            return JSONResponse({"error": "no such record"}, 404)
        self._vendor.store.delete(kind, id)
        return Response(status_code=204)

    async def tokens(self, _: Request) -> Response:
        desk = self._vendor.desk
        return JSONResponse({"asked": desk.asked, "given": desk.given})

    async def revoke_tokens(self, _: Request) -> Response:
        self._vendor.desk.revoke()
        return Response(status_code=204)

    async def configure(self, request: Request) -> Response:
        patch = _object(await request.json())
        self._vendor.change(patch)
        return JSONResponse({"changed": sorted(patch)})


def _kind(value: object) -> str:
    if not isinstance(value, str) or value not in RESOURCE_TYPES:
        raise ValueError("no such resource type")
    return value


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError("expected a JSON object")
    return value
