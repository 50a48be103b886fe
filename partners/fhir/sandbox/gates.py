"""The gates that a call passes before it is looked at: the limits, the token, the write scope; in this order."""

from __future__ import annotations

import asyncio
import hmac
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.types import Receive

from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.dialects import refusal
from partners.fhir.sandbox.interactions import refused
from partners.fhir.sandbox.limit_book import Verdict
from partners.fhir.sandbox.message import Answer, FhirRequest
from partners.fhir.sandbox.outcome import Issue, Refusal, refuse
from partners.fhir.sandbox.tokens import TokenDesk, is_for_desk


def refusal_of(
    request: FhirRequest, config: SandboxConfig, desk: TokenDesk, verdict: Verdict, wall: float
) -> Answer | None:
    """The refusal of a call that may not pass at `wall`, a Unix time, or None."""
    if verdict.wait > 0:
        return refused(refusal(config.dialect, verdict.wait, wall))
    if (request.segments == ("metadata",) and request.method == "GET") or is_for_desk(request, config):
        return None
    if not _is_known(shown_token(request), config, desk):
        headers = (("www-authenticate", 'Bearer realm="fhir", error="invalid_token"'),)
        return refused(Refusal(401, Issue("login", "a valid bearer token is required"), headers=headers))
    if config.read_only and request.method != "GET":
        return refused(refuse(403, "forbidden", "the token has no write scope"))
    return None


def endpoint(request: FhirRequest) -> str:
    """What limits of an endpoint go by: the first part of the path; `/` for a batch."""
    return request.segments[0] if request.segments else "/"


def shown_token(request: FhirRequest) -> str | None:
    """The bearer token that the caller shows."""
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token if scheme == "Bearer" and token else None


@asynccontextmanager
async def in_flight(verdict: Verdict, receive: Receive) -> AsyncIterator[None]:
    """The call holds its seats until the block ends or the caller's connection is gone. The request has been read."""
    if not verdict.seats:
        yield
        return
    release = _once(verdict.release)
    watcher = asyncio.create_task(_when_gone(receive, release))
    try:
        yield
    finally:
        watcher.cancel()
        release()


async def _when_gone(receive: Receive, act: Callable[[], None]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    act()


def _once(act: Callable[[], None]) -> Callable[[], None]:
    left = [act]

    def first_time() -> None:
        if left:
            left.pop()()

    return first_time


def _is_known(shown: str | None, config: SandboxConfig, desk: TokenDesk) -> bool:
    if config.smart is not None:
        return not config.smart.refuses and desk.has_given(shown or "")
    known = [*config.tokens, *(() if config.token is None else (config.token,))]
    given = (shown or "").encode("latin-1")
    return not known or any(hmac.compare_digest(given, token.encode()) for token in known)
