"""Whether a TCP port on this machine can be listened on, asked before a process is started for it."""

from __future__ import annotations

import socket

LOOPBACK = "127.0.0.1"


class PortInUseError(Exception):
    """Another program listens there; the message names the next step."""


def free_port() -> int:
    """A loopback port that nobody listens on now; somebody may before it is used."""
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        return int(probe.getsockname()[1])


def require_free_port(port: int, *, option: str = "--port") -> None:
    """Raise PortInUseError if `port` cannot be listened on; `option` is how the caller chooses another."""
    with socket.socket() as probe:
        # As servers do: a connection of a server that has just ended does not count.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            raise PortInUseError(
                f"Port {port} is taken by another program: end it, or choose another port with {option}"
            ) from None
