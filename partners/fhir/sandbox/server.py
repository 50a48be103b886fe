"""Running the sandbox: a port of its own, a clean end on SIGTERM and SIGINT, and no output.

`serve` is for a caller that has an event loop, `run` for one that has not.
"""

from __future__ import annotations

import errno
import signal
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import uvicorn

from partners.fhir.sandbox.app import create_app
from partners.fhir.sandbox.config import SandboxConfig, ServerTls
from partners.fhir.sandbox.wire import TappedProtocol

_GRACE_SECONDS = 2

OnReady = Callable[[str], None]
"""Called once with the server's address, such as `http://127.0.0.1:8080`, when it accepts calls."""


class PortInUseError(Exception):
    """Another process listens on the port; choose another one, or 0."""

    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"port {port} on {host} is in use: stop what listens there, or choose another port")
        self.port = port


def run(config: SandboxConfig, on_ready: OnReady | None = None) -> None:
    """Serve until SIGTERM or SIGINT, then return.

    Raises PortInUseError before anything is opened, StateFileError if the state file is damaged.
    """
    with bound_socket(config) as listener:
        SandboxServer(config, listener, on_ready).run(sockets=[listener])


async def serve(config: SandboxConfig, on_ready: OnReady | None = None) -> None:
    """As `run`, in the caller's event loop. Signals are handled only if that is the main thread's."""
    with bound_socket(config) as listener:
        await SandboxServer(config, listener, on_ready).serve(sockets=[listener])


@contextmanager
def bound_socket(config: SandboxConfig) -> Iterator[socket.socket]:
    """A listening socket at the configured address. PortInUseError if it is taken."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # a restart must not wait for TIME_WAIT
        try:
            listener.bind((config.host, config.port))
            listener.listen(2048)
        except OSError as error:
            if error.errno == errno.EADDRINUSE:
                raise PortInUseError(config.host, config.port) from None
            raise
        yield listener


class SandboxServer(uvicorn.Server):
    """uvicorn with our protocol class, silent, whose delays end when it shuts down."""

    def __init__(self, config: SandboxConfig, listener: socket.socket, on_ready: OnReady | None) -> None:
        app = create_app(config)
        super().__init__(
            uvicorn.Config(
                app,
                http=TappedProtocol,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_keep_alive=60,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                **_tls_options(config.tls),
            )
        )
        host, port = listener.getsockname()[:2]
        self.url = f"{'https' if config.tls else 'http'}://{host}:{port}"
        self._vendor = app.state.vendor
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start, then tell the address."""
        await super().startup(sockets)
        if self.started and self._on_ready is not None:
            self._on_ready(self.url)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Wake what is delayed on purpose, then shut down."""
        self._vendor.closing.set()
        await super().shutdown(sockets)

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Handle signals while serving. Unlike uvicorn's own, none is raised again: a stop is a clean return."""
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _tls_options(tls: ServerTls | None) -> dict[str, Any]:
    """What uvicorn is told of it."""
    if tls is None:
        return {}
    asked = ssl.CERT_NONE if tls.ca_file is None else ssl.CERT_REQUIRED
    return {"ssl_certfile": tls.identity_file, "ssl_ca_certs": tls.ca_file, "ssl_cert_reqs": asked}
