"""A place on a server that is reached by SFTP. Imported where one is: paramiko takes its time."""

from __future__ import annotations

import base64
import errno
import io
import logging
import os
import socket
import stat
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import paramiko

from partners.carecsv.places import UnsureError
from partners.errors import AuthenticationError, PartnerError, RejectedError

logging.getLogger("paramiko").setLevel(logging.CRITICAL)  # it logs tracebacks of what is told as a reason

_FAULTS = (OSError, EOFError, paramiko.SSHException, paramiko.SFTPError)
"""All that paramiko raises for what a server or the network does."""


@dataclass(frozen=True)
class Bounds:
    """How long what is asked for may take."""

    total_seconds: float = 20.0
    """For one listing, one file read or one file put, with the connection that it needs: whatever the server does in
    between, and though it answers a byte a second."""
    connect_seconds: float = 5.0
    """Until the server's machine is reached, for each of its addresses."""


@dataclass(frozen=True)
class Login:
    """How a server is entered."""

    user: str
    password: str = field(default="", repr=False)
    """Or of the private key."""
    private_key: str = field(default="", repr=False)
    """As OpenSSH writes it; empty: the password alone."""


class _Answer(paramiko.Message):  # type: ignore[misc]  # it ships no types
    """Whose text is read as names of files on this machine are: bytes that are no UTF-8 stand in it as surrogates."""

    def get_text(self) -> str:
        return os.fsdecode(self.get_string())


class _Client(paramiko.SFTPClient):  # type: ignore[misc]  # the same
    """Paramiko's own raises for a whole folder because of one name in another encoding."""

    def _request(self, kind: int, *told: object) -> tuple[int, paramiko.Message]:
        answered, answer = super()._request(kind, *told)
        return answered, _Answer(answer.get_remainder())


@dataclass
class Sftp:
    """On a server. The connection is made when it is first needed."""

    host: str
    port: int
    path: str
    login: Login
    host_key: str
    """The server's public key, as `ssh-ed25519 AAAA...`: to another one nothing is said."""
    bounds: Bounds = Bounds()
    _line: socket.socket | None = None
    _transport: paramiko.Transport | None = None
    _client: paramiko.SFTPClient | None = None

    def files(self, folder: str) -> list[tuple[str, float]]:
        """As Place."""
        with self._asked() as client:
            found = client.listdir_attr(self._at(folder))
        return [(each.filename, float(each.st_mtime or 0)) for each in found if stat.S_ISREG(each.st_mode or 0)]

    def read(self, name: str, most: int) -> bytes | None:
        """As Place."""
        with self._asked() as client:
            try:
                with client.open(self._at(name), "rb") as file:
                    least = min(file.stat().st_size or 0, most)
                    file.prefetch(least)
                    content: bytes = file.read(most)
            except FileNotFoundError:
                return None
            if len(content) < least:  # it ended early: half of it would be taken for all
                raise EOFError
            return content

    def put(self, name: str, content: bytes) -> None:
        """Under another name first, and then renamed. Whether the server forces it to its disk is the server's.

        What could not be put is taken away again, if the line still stands: a disk that is full would get fuller.
        """
        folder, _, file_name = name.rpartition("/")
        part = self._at(f"{folder}/.{file_name}.part")
        with self._asked() as client:
            try:
                client.putfo(io.BytesIO(content), part)  # which compares the size
                self._rename(client, part, self._at(name))
            except _FAULTS:
                with suppress(*_FAULTS):
                    client.remove(part)
                raise

    def make(self, folder: str) -> None:
        """As Place."""
        with self._asked() as client:
            try:
                client.stat(self._at(folder))
            except FileNotFoundError:
                client.mkdir(self._at(folder), 0o700)

    def may_write(self, folder: str) -> bool:
        """By the owner's right: whose the folder is the server does not say."""
        with self._asked() as client:
            return bool((client.stat(self._at(folder)).st_mode or 0) & stat.S_IWUSR)

    def close(self) -> None:
        """End the connection."""
        transport, self._transport, self._client = self._transport, None, None
        line, self._line = self._line, None
        if transport is not None:
            transport.close()
        if line is not None:
            line.close()

    def _rename(self, client: paramiko.SFTPClient, part: str, name: str) -> None:
        try:
            client.posix_rename(part, name)
        except (FileNotFoundError, PermissionError):
            raise
        except _FAULTS as error:
            raise UnsureError(errno.EIO, type(error).__name__) from None

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    @contextmanager
    def _asked(self) -> Iterator[paramiko.SFTPClient]:
        """The connection, for one act; given up after a fault, so that the next one is another.

        Paramiko bounds each answer, and some not at all: when the time is over the line is cut from outside, which ends
        whatever waits for it. Raises PartnerError and OSError.
        """
        over = threading.Event()
        watch = threading.Timer(self.bounds.total_seconds, self._cut, [over])
        watch.daemon = True
        watch.start()
        try:
            self._client = self._client or self._entered(over)
            yield self._client
        except (FileNotFoundError, PermissionError):
            raise
        except (UnsureError, PartnerError):
            self.close()
            raise
        except _FAULTS as error:
            self.close()
            raise ConnectionError(errno.EIO, type(error).__name__) from None
        finally:
            watch.cancel()

    def _cut(self, over: threading.Event) -> None:
        over.set()
        if self._line is not None:
            with suppress(OSError):  # it is closed already
                self._line.shutdown(socket.SHUT_RDWR)

    def _entered(self, over: threading.Event) -> paramiko.SFTPClient:
        """`over`: set when the time is."""
        kind, _, told = self.host_key.strip().partition(" ")
        bounds = self.bounds
        line = self._line = socket.create_connection((self.host, self.port), timeout=bounds.connect_seconds)
        if over.is_set():
            raise TimeoutError
        transport = self._transport = paramiko.Transport(line)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = bounds.total_seconds
        rsa = ("rsa-sha2-512", "rsa-sha2-256")
        transport.get_security_options().key_types = rsa if kind == "ssh-rsa" else (kind,)
        try:
            transport.start_client(timeout=bounds.total_seconds)
        except paramiko.IncompatiblePeer:  # it has no key of that kind
            raise RejectedError("host_key_differs") from None
        if transport.get_remote_server_key().asbytes() != _decoded(told):
            raise RejectedError("host_key_differs")
        self._log_in(transport)
        client = _Client.from_transport(transport)
        assert client is not None  # it raises
        client.get_channel().settimeout(bounds.total_seconds)
        return client

    def _log_in(self, transport: paramiko.Transport) -> None:
        """AuthenticationError if the server refuses the login, and only if it said so: paramiko calls a line that dies
        and a server that is silent by the same name."""
        try:
            if self.login.private_key:
                transport.auth_publickey(self.login.user, private_key(self.login))
            else:
                transport.auth_password(self.login.user, self.login.password)
        except paramiko.AuthenticationException:
            handler = transport.auth_handler
            if handler is not None and handler.get_username() is None:  # it forgets who was refused
                raise AuthenticationError("credential_refused") from None
            raise ConnectionError from None


def private_key(login: Login) -> paramiko.PKey:
    """The key of a login, of whatever kind. AuthenticationError if it is none, or its password is another one."""
    for kind in (paramiko.Ed25519Key, paramiko.ECDSAKey, paramiko.RSAKey):
        with suppress(paramiko.SSHException, ValueError, TypeError):
            return kind.from_private_key(io.StringIO(login.private_key), login.password or None)
    raise AuthenticationError("secret_missing")


def is_host_key(text: str) -> bool:
    """Whether it looks like a server's public key."""
    kind, _, told = text.strip().partition(" ")
    return kind in ("ssh-ed25519", "ssh-rsa", "ecdsa-sha2-nistp256", "ecdsa-sha2-nistp384") and bool(_decoded(told))


def _decoded(told: str) -> bytes:
    try:
        return base64.b64decode(told.split(" ")[0], validate=True)
    except ValueError:
        return b""
