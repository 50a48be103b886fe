"""An SFTP server on a folder, of another make than the connector's: what it does, and what can befall a line to it.

It is no part of an installation: asyncssh comes with what the tests need.
"""

from __future__ import annotations

import asyncio
import errno
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

import asyncssh

from partners.certification.bench import LineFault

USER, PASSWORD = "zest", "canary-password"
_HALF = 1000
"""Bytes of a file that come before the line ends."""
_WRITE = 0x02
"""SSH_FXF_WRITE."""


@dataclass
class SftpServer:
    """On a folder, in a thread. Callers come to it over a line of its own (`port`), which can be slow."""

    root: Path
    key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    users_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    port: int = 0
    logins: int = 0
    """How many passwords it was shown."""
    fault: LineFault | None = None
    seconds_at_login: float = 0.0
    hangs_up_when_refused: bool = False
    lists_to_nobody: bool = False
    _lines: list[asyncssh.SSHServerConnection] = field(default_factory=list)
    _pipes: set[asyncio.Task[None]] = field(default_factory=set)

    @property
    def host_key(self) -> str:
        """The public one."""
        return self.key.export_public_key().decode().strip()

    @property
    def others_key(self) -> str:
        """One that it does not have."""
        return self.users_key.export_public_key().decode().strip()

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the block ends."""
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        ends: list[Any] = []
        try:
            asyncio.run_coroutine_threadsafe(self._serve(ends), loop).result(20)
            yield
        finally:
            asyncio.run_coroutine_threadsafe(self._end(ends), loop).result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()

    async def _serve(self, ends: list[Any]) -> None:
        ssh = await asyncssh.listen(
            "127.0.0.1",
            0,
            server_factory=lambda: _Users(self),
            server_host_keys=[self.key],
            sftp_factory=lambda chan: _Files(chan, self),
        )
        ends.append(ssh)
        inner = ssh.get_port()

        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            with suppress(OSError):
                theirs, ours = await asyncio.open_connection("127.0.0.1", inner)
                for ends_ in ((reader, ours, False), (theirs, writer, True)):
                    task = asyncio.create_task(self._pipe(*ends_))
                    self._pipes.add(task)
                    task.add_done_callback(self._pipes.discard)

        front = await asyncio.start_server(relay, "127.0.0.1", 0)
        ends.append(front)
        self.port = front.sockets[0].getsockname()[1]

    async def _pipe(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, is_answer: bool) -> None:
        try:
            with suppress(OSError):
                while data := await reader.read(65536):
                    step = 1 if is_answer and self.fault is LineFault.SLOW else len(data)
                    for at in range(0, len(data), step):
                        writer.write(data[at : at + step])
                        await writer.drain()
                        if step < len(data) and self.fault is LineFault.SLOW:
                            await asyncio.sleep(1)
        finally:
            writer.close()

    async def _end(self, ends: list[Any]) -> None:
        for each in ends:
            each.close()
        for line in self._lines:
            line.abort()
            await line.wait_closed()
        for pipe in list(self._pipes):
            pipe.cancel()
        await asyncio.gather(*self._pipes, return_exceptions=True)
        await asyncio.sleep(0)  # the loop lets go of their sockets


class _Users(asyncssh.SSHServer):
    def __init__(self, server: SftpServer) -> None:
        self._server = server

    def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
        self._line = conn
        self._server._lines.append(conn)

    def begin_auth(self, username: str) -> bool:
        return True

    def password_auth_supported(self) -> bool:
        return True

    async def validate_password(self, username: str, password: str) -> bool:
        self._server.logins += 1
        if self._server.fault is LineFault.CUT_AT_LOGIN:
            self._line.abort()
        await asyncio.sleep(60 if self._server.fault is LineFault.SILENT_AT_LOGIN else self._server.seconds_at_login)
        is_right = (username, password) == (USER, PASSWORD)
        if not is_right and self._server.hangs_up_when_refused:
            asyncio.get_running_loop().call_soon(self._hang_up)
        return is_right

    def _hang_up(self) -> None:
        """After the answer."""
        asyncio.get_running_loop().call_later(0.02, self._line.abort)

    def public_key_auth_supported(self) -> bool:
        return True

    def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
        return bool(key.public_data == self._server.users_key.public_data)


class _Files(asyncssh.SFTPServer):
    def __init__(self, chan: asyncssh.SSHServerChannel[bytes], server: SftpServer) -> None:
        super().__init__(chan, chroot=str(server.root).encode())
        self._server, self._line = server, chan.get_connection()

    def scandir(self, path: bytes) -> Any:
        if self._server.lists_to_nobody:
            raise asyncssh.SFTPPermissionDenied("the server under test")
        return self._endless() if self._server.fault is LineFault.ENDLESS else super().scandir(path)

    async def _endless(self) -> AsyncIterator[asyncssh.SFTPName]:
        while self._server.fault is LineFault.ENDLESS:
            await asyncio.sleep(0.002)
            yield asyncssh.SFTPName(b"name", attrs=asyncssh.SFTPAttrs())

    def open(self, path: bytes, pflags: int, attrs: asyncssh.SFTPAttrs) -> Any:
        if self._server.fault is LineFault.FORBIDDEN and pflags & _WRITE:
            raise asyncssh.SFTPPermissionDenied("the server under test")
        return super().open(path, pflags, attrs)

    def read(self, file_obj: object, offset: int, size: int) -> Any:
        fault = self._server.fault
        if fault is LineFault.CUT_IN_READING and offset:
            self._cut()
        if fault is LineFault.ENDS_EARLY and offset:
            return b""
        if fault in (LineFault.CUT_IN_READING, LineFault.ENDS_EARLY):
            return super().read(file_obj, offset, min(size, _HALF))
        return super().read(file_obj, offset, size)

    def write(self, file_obj: object, offset: int, data: bytes) -> Any:
        fault = self._server.fault
        if fault in (LineFault.CUT_IN_WRITING, LineFault.FULL):
            super().write(file_obj, offset, data[: len(data) // 2])
        if fault is LineFault.CUT_IN_WRITING:
            self._cut()
        if fault is LineFault.FULL:
            raise OSError(errno.ENOSPC, "the server under test")
        return super().write(file_obj, offset, data)

    def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
        if self._server.fault is LineFault.RENAME_FAILS:
            raise asyncssh.SFTPFailure("the server under test")
        done = super().posix_rename(oldpath, newpath)
        if self._server.fault is LineFault.CUT_AT_RENAME:
            self._cut()
        return done

    def _cut(self) -> NoReturn:
        self._line.abort()
        raise asyncssh.SFTPConnectionLost("the server under test")
