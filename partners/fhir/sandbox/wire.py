"""The sockets' side: reading a request, sending a reply whole, and closing a connection in the middle of things.

ASGI has no message for "cut the line". The server's protocol class therefore leaves the connection's transport in the
request's scope, and a cut closes that: the caller sees a real end of stream, or a reset.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qsl, unquote

from starlette.types import Receive, Scope, Send
from uvicorn.protocols.http.auto import AutoHTTPProtocol

from partners.fhir.sandbox.message import Answer, FhirRequest

FHIR_JSON = "application/fhir+json; charset=utf-8"
_TRANSPORT = "sandbox_transport"


class _Tap(asyncio.Protocol):
    """Put before uvicorn's HTTP protocol: `app_state` is what uvicorn copies into each request's scope."""

    app_state: dict[str, Any]

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.app_state = {**self.app_state, _TRANSPORT: transport}
        super().connection_made(transport)


# Built by a call, since which of uvicorn's protocols is there is known only at run time.
TappedProtocol: type[asyncio.Protocol] = type("TappedProtocol", (_Tap, AutoHTTPProtocol), {})


@dataclass(frozen=True)
class Reply:
    """An HTTP reply, ready to send. Content-Length is added from the body."""

    status: int
    body: bytes = b""
    content_type: str | None = None
    """None: no Content-Type header."""
    headers: tuple[tuple[str, str], ...] = ()

    def raw_headers(self) -> list[tuple[bytes, bytes]]:
        """The headers as ASGI wants them."""
        own = list(self.headers)
        if self.content_type is not None:
            own.append(("content-type", self.content_type))
        if self.status != 204:
            own.append(("content-length", str(len(self.body))))
        return [(name.encode("latin-1"), value.encode("latin-1")) for name, value in own]


def render(answer: Answer) -> Reply:
    """An interaction's answer as an HTTP reply."""
    if answer.body is None:
        return Reply(answer.status, headers=answer.headers)
    body = json.dumps(answer.body, ensure_ascii=False, separators=(",", ":")).encode()
    return Reply(answer.status, body, answer.content_type, answer.headers)


async def read_request(scope: Scope, receive: Receive) -> FhirRequest:
    """The FHIR request in an ASGI one, its body read to the end."""
    body = bytearray()
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    is_form = headers.get("content-type") == "application/x-www-form-urlencoded"
    resource, readable = (None, True) if is_form else _parsed(bytes(body))
    return FhirRequest(
        method=scope["method"],
        segments=tuple(unquote(part) for part in scope["raw_path"].decode("ascii").split("/") if part),
        params=tuple(parse_qsl(scope["query_string"].decode("latin-1"), keep_blank_values=True)),
        headers=headers,
        base=f"{scope['scheme']}://{headers.get('host', 'localhost')}",
        resource=resource,
        readable=readable,
        form=dict(parse_qsl(body.decode("latin-1"))) if is_form else {},
    )


async def send_reply(send: Send, reply: Reply) -> None:
    """Send a reply as it should be."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.raw_headers()})
    await send({"type": "http.response.body", "body": reply.body})


async def send_in_pieces(send: Send, reply: Reply, pieces: AsyncIterator[bytes]) -> None:
    """Send a reply whose body comes piece by piece; its Content-Length stays that of `reply.body`."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.raw_headers()})
    async for piece in pieces:
        await send({"type": "http.response.body", "body": piece, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def send_half(scope: Scope, receive: Receive, send: Send, reply: Reply, *, reset: bool) -> None:
    """Send the headers and the first half of the body, then close."""
    await send({"type": "http.response.start", "status": reply.status, "headers": reply.raw_headers()})
    half = reply.body[: len(reply.body) // 2]
    await send({"type": "http.response.body", "body": half, "more_body": True})
    await cut(scope, receive, reset=reset)


async def cut(scope: Scope, receive: Receive, *, reset: bool) -> None:
    """Close the caller's connection: with FIN after what was sent, or (`reset`) at once with RST."""
    transport: asyncio.Transport = scope["state"][_TRANSPORT]
    if reset:
        _linger_zero(transport)
        transport.abort()
    else:
        transport.close()
    # Until uvicorn knows that the line is dead, it would take our return for a forgotten answer and log that.
    while (await receive())["type"] != "http.disconnect":
        pass


def _linger_zero(transport: asyncio.Transport) -> None:
    """Make the close a reset: the system sends RST for a socket that lingers zero seconds."""
    # By a second handle: the object that the loop gives out does not let every loop's user set options.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as handle:
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _parsed(body: bytes) -> tuple[dict[str, Any] | None, bool]:
    """(the JSON object or None, whether the body could be read as one or was empty)."""
    if not body:
        return None, True
    try:
        parsed = json.loads(body)
    except ValueError:
        return None, False
    return (parsed, True) if isinstance(parsed, dict) else (None, False)
