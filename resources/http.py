"""HTTP clients whose every exchange ends: in time, in size, and without help from the environment.

httpx bounds each read, not the exchange: a server that drips a byte a second holds a caller for ever. It
bounds no body either, and unpacks gzip without looking at the size. So the transport here reads the whole
answer itself, under one deadline and one limit on the unpacked body, and hands it on complete.

Refused on purpose:

- the environment (`HTTPS_PROXY`, `.netrc`, `SSL_CERT_FILE`): a proxy found there would see patient data,
  answer in the partner's place and blur whether a request left; a `.netrc` would add a credential nobody
  configured;
- redirects: the address, and with it the credential, goes where the connection says and nowhere else;
- cookies: a client may serve several tenants of one partner, and a session of one must not reach another.
"""

from __future__ import annotations

import logging
import ssl
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from http.cookiejar import CookieJar, DefaultCookiePolicy
from pathlib import Path
from typing import Any

import httpcore
import httpx

from resources.deadline import Deadline, DeadlineBackend
from resources.tls import Tls, context

PLAIN = Tls()
TOO_LARGE = "response.too_large"
"""The event that a request's `trace` extension is told when the body goes beyond the limit."""

_KEEPALIVE_SECONDS = 3.0  # below the 5 s of many servers: a write on a line just being closed ends as unknown
_tls_lock = threading.Lock()


class BodyTooLargeError(httpx.DecodingError):
    """The body, unpacked, is larger than the settings allow; the rest of it was not read."""


@dataclass(frozen=True)
class Http:
    """How partners are called. Equal `ca_file`s share one TLS context, which costs 38 ms and a megabyte."""

    total_seconds: float = 20.0
    """From asking for a connection to the last byte of the answer."""
    connect_seconds: float = 5.0
    """For the name and the TCP connection, and again for the TLS handshake; both within the total."""
    max_body_bytes: int = 32 * 1024 * 1024
    """Largest body of an answer, unpacked; inclusive."""
    ca_file: Path | None = None
    """PEM file of the authorities to trust instead of the public ones."""

    def client(self, tls: Tls = PLAIN, before_sending: Callable[[], None] | None = None) -> httpx.Client:
        """A new client for one thread of work, to be closed; `tls`: the connection's own certificates.

        `before_sending` is called for each request, before anything of it leaves, and may raise to keep it back.
        OSError if `ca_file` cannot be read, TlsError if a certificate cannot be used.
        """
        for name in ("httpx", "httpcore"):  # they log addresses with their query and, at debug, credentials
            logging.getLogger(name).setLevel(logging.WARNING)
        return httpx.Client(
            transport=_Transport(
                self, tls_context(self.ca_file) if tls.is_plain else context(tls), before_sending or _nothing
            ),
            timeout=httpx.Timeout(self.total_seconds, connect=self.connect_seconds),
            headers={"accept-encoding": "gzip", "user-agent": "zest-pipelines"},
            cookies=CookieJar(DefaultCookiePolicy(allowed_domains=())),
            follow_redirects=False,
            trust_env=False,
        )


def tls_context(ca_file: Path | None) -> ssl.SSLContext:
    """The one context for these authorities (None: the public ones)."""
    with _tls_lock:  # threads that start together must not each make one
        return _made_tls_context(ca_file)


@cache
def _made_tls_context(ca_file: Path | None) -> ssl.SSLContext:
    if ca_file is None:
        return httpx.create_ssl_context(trust_env=False)
    return ssl.create_default_context(cafile=str(ca_file))


class _Transport(httpx.BaseTransport):
    """One exchange a call, its answer read to the end. Errors are httpx's own, plus BodyTooLargeError."""

    def __init__(self, settings: Http, tls: ssl.SSLContext, before_sending: Callable[[], None]) -> None:
        self._settings = settings
        self._before_sending = before_sending
        self._deadline = Deadline()
        self._pool = httpcore.ConnectionPool(
            ssl_context=tls,
            max_connections=2,
            keepalive_expiry=_KEEPALIVE_SECONDS,
            network_backend=DeadlineBackend(self._deadline),
        )

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send, and read the whole answer within the settings' bounds."""
        self._before_sending()
        self._deadline.begin(self._settings.total_seconds)
        with _in_httpx_terms():
            answer = self._pool.handle_request(_core_request(request))
            try:
                return self._read(request, answer)
            finally:
                answer.close()

    def close(self) -> None:
        """Close what is kept open."""
        self._pool.close()

    def _read(self, request: httpx.Request, answer: httpcore.Response) -> httpx.Response:
        headers = httpx.Headers(answer.headers)
        encoding = headers.pop("content-encoding", "identity").strip().lower()
        assert isinstance(answer.stream, Iterable)
        try:
            body = _read_body(answer.stream, encoding, self._settings.max_body_bytes)
        except BodyTooLargeError:
            trace = request.extensions.get("trace")
            if trace is not None:
                trace(TOO_LARGE, {})
            raise
        return httpx.Response(answer.status, headers=headers, content=body, extensions=_plain(answer.extensions))


def _nothing() -> None:
    pass


def _core_request(request: httpx.Request) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        request.method,
        httpcore.URL(scheme=url.raw_scheme, host=url.raw_host, port=url.port, target=url.raw_path),
        headers=request.headers.raw,
        content=request.stream,
        extensions=request.extensions,
    )


def _plain(extensions: Any) -> dict[str, Any]:
    """Without the connection itself: it is not the reader's any more."""
    return {name: extensions[name] for name in ("http_version", "reason_phrase") if name in extensions}


@contextmanager
def _in_httpx_terms() -> Iterator[None]:
    """httpcore's errors as httpx's, which have the same names."""
    try:
        yield
    except (
        httpcore.TimeoutException,
        httpcore.NetworkError,
        httpcore.ProtocolError,
        httpcore.UnsupportedProtocol,
    ) as error:
        known: type[httpx.TransportError] = getattr(httpx, type(error).__name__)
        raise known(str(error)) from error


def _read_body(chunks: Iterable[bytes], encoding: str, most: int) -> bytes:
    """The whole body, unpacked. Holds at most `most` bytes and one chunk of it."""
    if encoding not in ("identity", "gzip", "x-gzip"):
        raise httpx.DecodingError("the body comes in an encoding that was not asked for")
    inflater = None if encoding == "identity" else _Inflater()
    body = bytearray()
    for chunk in chunks:
        body += chunk if inflater is None else inflater.unpack(chunk, most + 1 - len(body))
        if len(body) > most:
            raise BodyTooLargeError("the body of the answer is too large")
    if inflater is not None:
        inflater.finish()
    return bytes(body)


class _Inflater:
    """gzip, unpacked no further than it is wanted. httpx.DecodingError if it is damaged or not complete."""

    def __init__(self) -> None:
        self._zlib = zlib.decompressobj(16 + zlib.MAX_WBITS)
        self._has_begun = False

    def unpack(self, chunk: bytes, most: int) -> bytes:
        """What `chunk` holds; no more of it than `most` bytes (at least 1), then nothing may follow."""
        self._has_begun = True
        try:
            content = self._zlib.decompress(chunk, most)
        except zlib.error:
            raise httpx.DecodingError("the gzip body is damaged") from None
        if self._zlib.unused_data:  # zlib would hoard all that comes after the end
            raise httpx.DecodingError("the gzip body goes on after its end")
        return content

    def finish(self) -> None:
        """Make sure that it came to its end; a body without any byte is no gzip, and none is missed."""
        if self._has_begun and not self._zlib.eof:
            raise httpx.DecodingError("the gzip body ends too early")
