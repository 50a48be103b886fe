"""Care CSV by SFTP, with a server of another make: the same in and out, and to whom nothing is said."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from carecsv_bench import SETTINGS, STARTS, visit, visit_record
from evidence import is_told
from fhir_bench import NotingGate

from partners.carecsv import partner as declaration
from partners.carecsv import sftp
from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import CareOffice, made_up, planned
from partners.contract import Absent, Connection, Connector, Delivered, Entity, Refused, Retry, Unknown
from partners.errors import AuthenticationError, RejectedError, RetryableError
from resources.http import Http

PASSWORD = "canary-password"


@dataclass
class Server:
    """An SFTP server on a folder, in a thread."""

    root: Path
    key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    users_key: asyncssh.SSHKey = field(default_factory=lambda: asyncssh.generate_private_key("ssh-ed25519"))
    port: int = 0
    logins: int = 0
    dies_at_rename: bool = False
    lists_to_nobody: bool = False
    seconds_at_login: float = 0.0

    @property
    def host_key(self) -> str:
        return self.key.export_public_key().decode().strip()

    @contextmanager
    def running(self) -> Iterator[None]:
        loop, started = asyncio.new_event_loop(), threading.Event()
        held: dict[str, Any] = {}
        lines: list[asyncssh.SSHServerConnection] = []

        async def serve() -> None:
            server = self

            class Users(asyncssh.SSHServer):
                def connection_made(self, conn: asyncssh.SSHServerConnection) -> None:
                    lines.append(conn)

                def begin_auth(self, username: str) -> bool:
                    return True

                def password_auth_supported(self) -> bool:
                    return True

                async def validate_password(self, username: str, password: str) -> bool:
                    server.logins += 1
                    await asyncio.sleep(server.seconds_at_login)
                    return (username, password) == ("zest", PASSWORD)

                def public_key_auth_supported(self) -> bool:
                    return True

                def validate_public_key(self, username: str, key: asyncssh.SSHKey) -> bool:
                    return bool(key.public_data == server.users_key.public_data)

            class Files(asyncssh.SFTPServer):
                def scandir(self, path: bytes) -> Any:
                    if server.lists_to_nobody:
                        raise asyncssh.SFTPPermissionDenied("the server under test")
                    return super().scandir(path)

                def posix_rename(self, oldpath: bytes, newpath: bytes) -> Any:
                    done = super().posix_rename(oldpath, newpath)
                    if server.dies_at_rename and b"/in/" not in newpath:
                        raise asyncssh.SFTPConnectionLost("the server under test")
                    return done

            held["server"] = await asyncssh.listen(
                "127.0.0.1",
                0,
                server_factory=Users,
                server_host_keys=[self.key],
                sftp_factory=lambda chan: Files(chan, chroot=str(self.root).encode()),
            )
            self.port = held["server"].get_port()
            started.set()

        thread = threading.Thread(target=loop.run_forever)
        thread.start()
        asyncio.run_coroutine_threadsafe(serve(), loop).result(20)
        try:
            assert started.wait(20)
            yield
        finally:

            async def end() -> None:
                held["server"].close()
                await held["server"].wait_closed()
                for line in lines:
                    line.abort()
                    await line.wait_closed()
                await asyncio.sleep(0)  # the loop lets go of their sockets

            asyncio.run_coroutine_threadsafe(end(), loop).result(20)
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CareOffice:
    monkeypatch.setattr(declaration, "STILL_SECONDS", 0.0)
    (tmp_path / "care").mkdir()
    made = CareOffice(tmp_path / "care")
    made.send([made_up(1, number) for number in range(1, 4)])
    return made


@pytest.fixture
def server(tmp_path: Path, office: CareOffice) -> Iterator[Server]:
    made = Server(tmp_path)
    with made.running():
        yield made


@contextmanager
def connected(
    server: Server, *, path: str = "/care", secret: dict[str, str] | None = None, **settings: str
) -> Iterator[Connector]:
    url = f"sftp://127.0.0.1:{server.port}{path}"
    given = SETTINGS | {"host_key": server.host_key} | settings
    secret = {"user": "zest", "password": PASSWORD} if secret is None else secret
    connector = CARECSV.open(Connection("hidamari", "carecsv", url, given), secret, Http().client(), NotingGate())
    try:
        yield connector
    finally:
        connector.close()


def test_clients_come_in_and_actuals_go_out(server: Server, office: CareOffice) -> None:
    with connected(server) as connector:
        assert [access.may_write for access in connector.check().access] == [None, True, True]
        (page,) = connector.read(Entity.CLIENT, None)
        assert len(page.records) == 3
        plan = visit()
        assert isinstance(connector.send(plan), Delivered)
        assert isinstance(connector.send(visit_record(plan)), Delivered)
        assert len(office.take()) == 1
        assert isinstance(connector.send(visit_record(plan)), Delivered)
        assert office.take() == []
    assert server.logins == 1
    assert not list(office.base.glob("*/.*.part"))


def test_a_private_key_opens_it_too(server: Server) -> None:
    key = server.users_key.export_private_key().decode()
    with connected(server, secret={"user": "zest", "private_key": key}) as connector:
        assert connector.check().server == "care CSV"


def test_to_another_server_nothing_is_said(server: Server) -> None:
    others = asyncssh.generate_private_key("ssh-ed25519").export_public_key().decode()
    for key in (others, asyncssh.generate_private_key("ecdsa-sha2-nistp256").export_public_key().decode()):
        with (
            connected(server, host_key=key) as connector,
            pytest.raises(RejectedError, match="host_key_differs") as caught,
        ):
            connector.check()
        is_told("host_key_differs", caught.value.params)
        with connected(server, host_key=key) as connector:
            assert connector.send(visit()) == Refused("host_key_differs")
    assert server.logins == 0


@pytest.mark.parametrize(
    ("changes", "kind", "reason"),
    [
        ({"secret": {"user": "zest", "password": "wrong"}}, AuthenticationError, "credential_refused"),
        ({"secret": {"user": "zest"}}, AuthenticationError, "secret_missing"),
        ({"secret": {"user": "zest", "private_key": "nothing"}}, AuthenticationError, "secret_missing"),
        ({"path": "/elsewhere"}, RejectedError, "folder_missing"),
        ({"host_key": ""}, RejectedError, "settings_missing"),
        ({"host_key": "ssh-ed25519 %%%"}, RejectedError, "settings_missing"),
    ],
)
def test_what_is_wrong_is_said_and_no_secret_with_it(
    server: Server, changes: dict[str, Any], kind: type[Exception], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(kind, match=reason), connected(server, **changes) as connector:
        connector.check()
    assert PASSWORD not in caplog.text


def test_a_folder_that_may_not_be_listed_is_told_as_that(server: Server) -> None:
    server.lists_to_nobody = True
    with connected(server) as connector, pytest.raises(RejectedError) as caught:
        list(connector.read(Entity.CLIENT, None))
    assert caught.value.reason == "folder_forbidden"
    is_told("folder_forbidden", caught.value.params)


def test_a_server_that_does_not_say_whether_it_lets_us_in_means_later_and_no_wrong_password(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    server.seconds_at_login = 9.0
    monkeypatch.setattr(sftp, "_SECONDS", 0.5)
    with connected(server) as connector, pytest.raises(RetryableError, match="partner_unreachable"):
        connector.check()
    assert server.logins == 1


def test_a_server_that_is_away_means_later(server: Server) -> None:
    away = Server(server.root, port=1)
    with connected(away) as connector:
        with pytest.raises(RetryableError, match="partner_unreachable"):
            connector.check()
        assert connector.send(visit()) == Retry("partner_unreachable")


def test_a_connection_that_ends_in_a_write_leaves_doubt_and_the_next_call_makes_another(
    server: Server, office: CareOffice
) -> None:
    with connected(server) as connector:
        plan = visit()
        assert isinstance(connector.send(plan), Delivered)
        server.dies_at_rename = True
        record = visit_record(plan)
        assert connector.send(record) == Unknown("connection_cut_unsure")
        server.dies_at_rename = False
        assert connector.find(record) == Absent()
        assert isinstance(connector.send(record), Delivered)
    assert len(office.take()) == 1


def test_plans_come_in_as_from_a_folder(server: Server, office: CareOffice) -> None:
    office.send_plans([planned(made_up(1, 1), STARTS, STARTS + timedelta(hours=1))], "202612")
    assert CARECSV.read_plans is not None
    with connected(server) as connector:
        (page,) = CARECSV.read_plans(connector, None)
    (plan,) = page.plans
    assert plan.services is not None
    assert [(each.starts, each.ends) for each in plan.services] == [("09:30", "10:30")]
