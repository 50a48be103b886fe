"""Sockets under one deadline for the whole exchange, as a network backend for httpcore.

A timeout of httpx starts anew with every byte, every part of a write and every address of a name; a
resolver knows none at all. Here each of them gets what is left of the exchange's time, and no more.
"""

from __future__ import annotations

import ipaddress
import math
import queue
import socket
import ssl
import threading
import time
from collections.abc import Iterable
from typing import Any

import httpcore


class Deadline(threading.local):
    """When the exchange that the current thread is in must be over, by the monotonic clock."""

    at = math.inf

    def begin(self, seconds: float) -> None:
        """Let the calls from now on have `seconds` together."""
        self.at = time.monotonic() + seconds

    def left(self, most: float | None, late: type[Exception]) -> float:
        """Seconds left, at most `most`, always above 0. Raises `late` if there are none."""
        left = min(self.at - time.monotonic(), math.inf if most is None else most)
        if left <= 0:
            raise late("the time for the exchange is over")
        return left


class DeadlineBackend(httpcore.NetworkBackend):
    """httpcore's own sockets, each call of which gets only the time left."""

    def __init__(self, deadline: Deadline) -> None:
        self._deadline = deadline
        self._inner = httpcore.SyncBackend()

    def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.NetworkStream:
        """Try the host's addresses in turn, all within `timeout`."""
        end = time.monotonic() + self._deadline.left(timeout, httpcore.ConnectTimeout)
        failed: Exception = httpcore.ConnectError("the name has no address")
        for address in _resolve(host, port, end - time.monotonic()):
            left = self._deadline.left(end - time.monotonic(), httpcore.ConnectTimeout)
            try:
                stream = self._inner.connect_tcp(address, port, left, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as error:
                failed = error
            else:
                return _Stream(stream, self._deadline)
        raise failed


class _Stream(httpcore.NetworkStream):
    """A connection, each call on which gets only the time left."""

    def __init__(self, inner: httpcore.NetworkStream, deadline: Deadline) -> None:
        self._inner = inner
        self._deadline = deadline

    def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        """What has come, at least a byte; empty at the end of the stream."""
        return self._inner.read(max_bytes, self._deadline.left(timeout, httpcore.ReadTimeout))

    def write(self, buffer: bytes, timeout: float | None = None) -> None:
        """Send all of it. Not by the inner stream, whose clock starts anew for each part that it sends."""
        line: socket.socket = self._inner.get_extra_info("socket")
        rest = memoryview(buffer)
        try:
            while rest:
                line.settimeout(self._deadline.left(timeout, httpcore.WriteTimeout))
                rest = rest[line.send(rest) :]
        except TimeoutError as error:
            raise httpcore.WriteTimeout("the request was not taken in time") from error
        except OSError as error:
            raise httpcore.WriteError("the connection failed while sending") from error

    def close(self) -> None:
        """Close the connection."""
        self._inner.close()

    def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.NetworkStream:
        """The same connection, encrypted."""
        left = self._deadline.left(timeout, httpcore.ConnectTimeout)
        return _Stream(self._inner.start_tls(ssl_context, server_hostname, left), self._deadline)

    def get_extra_info(self, info: str) -> Any:
        """As the inner stream."""
        return self._inner.get_extra_info(info)


def _resolve(host: str, port: int, seconds: float) -> list[str]:
    """The host's addresses. The system's resolver knows no timeout, so a thread of its own waits for it."""
    if _is_address(host):
        return [host]
    found: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()

    def ask() -> None:
        try:
            rows = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
            found.put([str(row[4][0]) for row in rows])
        except (OSError, UnicodeError) as error:
            found.put(error)

    threading.Thread(target=ask, name="resolve", daemon=True).start()
    try:
        answer = found.get(timeout=max(seconds, 0.001))
    except queue.Empty:
        raise httpcore.ConnectTimeout("the name was not resolved in time") from None
    if isinstance(answer, Exception):
        raise httpcore.ConnectError("the name could not be resolved") from answer
    return answer


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
