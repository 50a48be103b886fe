"""The sandbox as an ASGI application, and the gates that a FHIR request passes in it.

limits (429) -> token (401) -> write scope (403) -> fault -> interaction -> journal -> reply
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.routing import Mount
from starlette.types import Receive, Scope, Send

from partners.fhir.sandbox import breakage
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.control import control_routes
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.gates import in_flight
from partners.fhir.sandbox.limit_book import Verdict
from partners.fhir.sandbox.vendor import Call, Vendor
from partners.fhir.sandbox.wire import Reply, read_request


class FhirEndpoint:
    """The ASGI side of the FHIR paths."""

    def __init__(self, vendor: Vendor) -> None:
        self._vendor = vendor

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        vendor = self._vendor
        call = vendor.arrive(await read_request(scope, receive))
        verdict = vendor.count(call)
        async with in_flight(verdict, receive):
            fault, reply = await self._answer(call, verdict)
            reply = vendor.announce(call, verdict, reply)
            await breakage.deliver(fault, reply, scope, receive, send, vendor.sleep)

    async def _answer(self, call: Call, verdict: Verdict) -> tuple[FaultRule | None, Reply]:
        """The reply, and the fault in whose manner it is to be sent."""
        vendor = self._vendor
        if refusal := vendor.gate(call, verdict):
            return None, vendor.turn_away(call, refusal)
        fault = vendor.faults.request_fault(call.facts)
        if fault is not None and fault.kind == FaultKind.DELAY_BEFORE:
            await vendor.sleep(fault.seconds)
        return fault, vendor.perform(call, fault)


def create_app(config: SandboxConfig) -> Starlette:
    """The application, its data loaded. `app.state.vendor` is the Vendor; its files close at the lifespan's end."""
    vendor = Vendor(config)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        vendor.close()

    routes = [Mount("/_sandbox", routes=control_routes(vendor)), Mount("/", app=FhirEndpoint(vendor))]
    app = Starlette(routes=routes, lifespan=lifespan)
    app.state.vendor = vendor
    return app
