"""A partner that only counts: it refuses what is beyond its limits and keeps the time of every call it saw.

It knows nothing of the platform and shares no code with it: what it says of the calls is the judgement on the ledger.
A call is `GET /CALLER/ENDPOINT`. Its time is read when its head has arrived, on this machine's monotonic clock. A
sliding log and a fixed window watch each limit at once; a refused call is in neither, but it is in the log that a test
reads.

`GET /-/log` gives the log, `GET /-/limits?factor=0.5` changes the limits of all windows while it runs. It prints its
port and ends with its standard input.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import time
from collections import Counter, defaultdict, deque
from contextlib import suppress
from typing import Any


class Window:
    """At most `calls` in `seconds`, in any window of that length and in each that begins at a multiple of it."""

    def __init__(self, calls: int, seconds: float) -> None:
        self.calls = calls
        self.seconds = seconds
        self._log: deque[float] = deque()
        self._fixed = (0, 0)
        """The number of the window, and how many are in it."""

    def has_room(self, now: float, factor: float) -> bool:
        """Whether one more fits at `now`, with `factor` of the limit."""
        # <=: the window is half-open, so a call exactly one window old has left it.
        while self._log and self._log[0] <= now - self.seconds:
            self._log.popleft()
        number, count = self._fixed
        if number != int(now / self.seconds):
            self._fixed = number, count = int(now / self.seconds), 0
        return max(len(self._log), count) < int(self.calls * factor)

    def add(self, now: float) -> None:
        """Count it; `has_room` was asked at the same `now`."""
        self._log.append(now)
        self._fixed = self._fixed[0], self._fixed[1] + 1


class Partner:
    """The limits and the log."""

    def __init__(self, config: dict[str, Any]) -> None:
        """`config`: as CountingPartner's `running_counting`."""
        self.latency: float = config["latency"]
        self.factor = 1.0
        self._shared = [Window(*each) for each in config["all"]]
        self._own: dict[str, list[Window]] = defaultdict(lambda: [Window(*each) for each in config["per_caller"]])
        self._most_in_flight: int | None = config["in_flight"]
        self._in_flight: Counter[str] = Counter()
        self._log: list[tuple[float, str, bool, int]] = []

    async def call(self, caller: str) -> int:
        """The status of its answer."""
        now = time.monotonic()
        self._in_flight[caller] += 1
        in_flight = self._in_flight[caller]
        windows = self._shared + self._own[caller]
        is_within = self._most_in_flight is None or in_flight <= self._most_in_flight
        is_admitted = is_within and all(window.has_room(now, self.factor) for window in windows)
        self._log.append((now, caller, is_admitted, in_flight))
        if is_admitted:
            for window in windows:
                window.add(now)
            await asyncio.sleep(self.latency)
        self._in_flight[caller] -= 1
        return 200 if is_admitted else 429

    async def answer(self, path: str) -> tuple[int, bytes]:
        """Status and body for a path."""
        _, caller, rest = path.split("/", 2)
        if caller != "-":
            return await self.call(caller), b""
        if rest.startswith("limits"):
            self.factor = float(rest.partition("=")[2])
        return 200, json.dumps(self._log).encode()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One line, call after call, until the caller hangs up."""
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                status, body = await self.answer(head.split(b" ", 2)[1].decode())
                writer.write(b"HTTP/1.1 %d X\r\nContent-Length: %d\r\n\r\n%b" % (status, len(body), body))
                await writer.drain()
        writer.close()


async def main() -> None:
    """Listen until the standard input ends."""
    server = await asyncio.start_server(Partner(json.loads(sys.argv[1])).serve, "127.0.0.1", 0)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    os._exit(0)  # lines that are open would be waited for


if __name__ == "__main__":
    asyncio.run(main())
