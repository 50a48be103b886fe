"""What each kind of fault does to a reply and to the connection that carries it. What a page of a search may suffer
besides is in `bad_pages`.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace

from starlette.types import Receive, Scope, Send

from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.interactions import refused
from partners.fhir.sandbox.outcome import Json, refuse
from partners.fhir.sandbox.wire import Reply, cut, render, send_half, send_in_pieces, send_reply

_HTML = "text/html; charset=utf-8"
_LOGIN_PAGE = b"<!DOCTYPE html><html><body><form method=post><input name=user><input name=pass></form></body></html>"
_ERROR_PAGE = b"<!DOCTYPE html><html><head><title>Error</title></head><body><h1>Error</h1></body></html>"

Sleep = Callable[[float], Awaitable[None]]


def instead(rule: FaultRule, url: str) -> Reply | None:
    """The reply that is sent without the request being applied; None if the kind lets it be applied.

    `url` is the address asked for, which a redirect sends the caller back to.
    """
    match rule.kind:
        case FaultKind.STATUS:
            return _status_reply(rule)
        case FaultKind.HTML_STATUS:
            return Reply(rule.status, _ERROR_PAGE, _HTML, _retry_after(rule))
        case FaultKind.HTML_LOGIN:
            return Reply(200, _LOGIN_PAGE, _HTML)
        case FaultKind.REDIRECT:
            return Reply(307, headers=(("location", url),))
        case FaultKind.CUT_BEFORE:
            return Reply(0)
    return None


def spoiled(rule: FaultRule, reply: Reply) -> Reply:
    """The reply to an applied request as this kind changes it."""
    match rule.kind:
        case FaultKind.APPLY_THEN_STATUS:
            return _status_reply(rule)
        case FaultKind.WRONG_CONTENT_TYPE:
            return replace(reply, content_type="text/plain; charset=utf-8")
        case FaultKind.EMPTY_BODY:
            return replace(reply, body=b"")
        case FaultKind.SHORT_BATCH:
            bundle: Json = json.loads(reply.body)
            return replace(reply, body=json.dumps(bundle | {"entry": bundle["entry"][:-1]}).encode())
    return reply


def is_cut(rule: FaultRule | None) -> bool:
    """Whether the caller gets no reply at all."""
    return rule is not None and rule.kind in (FaultKind.CUT_BEFORE, FaultKind.CUT_AFTER)


async def deliver(
    rule: FaultRule | None, reply: Reply, scope: Scope, receive: Receive, send: Send, sleep: Sleep
) -> None:
    """Send `reply` in the manner of the fault, or as it should be if there is none."""
    match rule:
        case FaultRule(kind=FaultKind.CUT_BEFORE | FaultKind.CUT_AFTER, reset=reset):
            await cut(scope, receive, reset=reset)
        case FaultRule(kind=FaultKind.TRUNCATED_BODY, reset=reset):
            await send_half(scope, receive, send, reply, reset=reset)
        case FaultRule(kind=FaultKind.DRIP, bytes=size, seconds=seconds):
            await send_in_pieces(send, reply, _drips(reply.body, size, seconds, sleep))
        case FaultRule(kind=FaultKind.DELAY, seconds=seconds):
            await sleep(seconds)
            await send_reply(send, reply)
        case _:
            await send_reply(send, reply)


async def _drips(body: bytes, size: int, seconds: float, sleep: Sleep) -> AsyncIterator[bytes]:
    for start in range(0, len(body), size):
        yield body[start : start + size]
        await sleep(seconds)


def _status_reply(rule: FaultRule) -> Reply:
    answer = refused(refuse(rule.status, rule.code, "fault of the sandbox"))
    return render(replace(answer, headers=_retry_after(rule)))


def _retry_after(rule: FaultRule) -> tuple[tuple[str, str], ...]:
    return () if rule.retry_after is None else (("retry-after", str(rule.retry_after)),)
