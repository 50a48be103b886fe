"""How long the board waits for a caller: a line on which nothing comes to an end is closed, so that slow ones, or ones
that mean harm, do not take the places of others. The server itself bounds idle lines alone."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

PATIENCE_SECONDS = 10.0


class ImpatientProtocol(H11Protocol):
    """Within twice PATIENCE_SECONDS each request has come, head and body, and is answered."""

    _seen: RequestResponseCycle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """As the server's own."""
        super().connection_made(transport)
        self.loop.call_later(PATIENCE_SECONDS, self._look)

    def _look(self) -> None:
        if self.transport.is_closing():
            return
        if self.cycle is self._seen:
            self.transport.abort()
            return
        self._seen = self.cycle
        self.loop.call_later(PATIENCE_SECONDS, self._look)
