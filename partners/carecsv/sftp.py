"""A place on a server that is reached by SFTP. Imported where one is: paramiko takes its time."""

from __future__ import annotations

import base64
import errno
import io
import socket
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

import paramiko

from partners.carecsv.places import UnsureError
from partners.errors import AuthenticationError, RejectedError

_SECONDS = 20.0
"""For a connection, and for each answer."""


@dataclass(frozen=True)
class Login:
    """How a server is entered."""

    user: str
    password: str = field(default="", repr=False)
    """Or of the private key."""
    private_key: str = field(default="", repr=False)
    """As OpenSSH writes it; empty: the password alone."""


@dataclass
class Sftp:
    """On a server. The connection is made when it is first needed."""

    host: str
    port: int
    path: str
    login: Login
    host_key: str
    """The server's public key, as `ssh-ed25519 AAAA...`: to another one nothing is said."""
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
                    file.prefetch(min(file.stat().st_size or 0, most))
                    content: bytes = file.read(most)
                    return content
            except FileNotFoundError:
                return None

    def put(self, name: str, content: bytes) -> None:
        """Under another name first, and then renamed. Whether the server forces it to its disk is the server's."""
        folder, _, file_name = name.rpartition("/")
        part = self._at(f"{folder}/.{file_name}.part")
        with self._asked() as client:
            client.putfo(io.BytesIO(content), part)  # which compares the size
            try:
                client.posix_rename(part, self._at(name))
            except (FileNotFoundError, PermissionError):
                raise
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise UnsureError(errno.EIO, type(error).__name__) from None

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
        if transport is not None:
            transport.close()

    def _at(self, name: str) -> str:
        return f"{self.path.rstrip('/')}/{name}"

    @contextmanager
    def _asked(self) -> Iterator[paramiko.SFTPClient]:
        """The connection; given up after a fault, so that the next one is another. Raises PartnerError and OSError."""
        try:
            self._client = self._client or self._entered()
            yield self._client
        except (FileNotFoundError, PermissionError, UnsureError):
            raise
        except (OSError, EOFError, paramiko.SSHException) as error:
            self.close()
            raise ConnectionError(errno.EIO, type(error).__name__) from None

    def _entered(self) -> paramiko.SFTPClient:
        kind, _, told = self.host_key.strip().partition(" ")
        line = socket.create_connection((self.host, self.port), timeout=_SECONDS)
        transport = self._transport = paramiko.Transport(line)
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = _SECONDS
        rsa = ("rsa-sha2-512", "rsa-sha2-256")
        transport.get_security_options().key_types = rsa if kind == "ssh-rsa" else (kind,)
        try:
            transport.start_client(timeout=_SECONDS)
        except paramiko.IncompatiblePeer:  # it has no key of that kind
            raise RejectedError("host_key_differs") from None
        if transport.get_remote_server_key().asbytes() != _decoded(told):
            raise RejectedError("host_key_differs")
        began = time.monotonic()
        try:
            if self.login.private_key:
                transport.auth_publickey(self.login.user, private_key(self.login))
            else:
                transport.auth_password(self.login.user, self.login.password)
        except paramiko.AuthenticationException:
            if time.monotonic() - began >= _SECONDS:  # paramiko calls silence so too
                raise TimeoutError from None
            raise AuthenticationError("credential_refused") from None
        client = paramiko.SFTPClient.from_transport(transport)
        assert client is not None  # it raises
        client.get_channel().settimeout(_SECONDS)
        return client


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
