"""Care CSV by SFTP, with a server of another make: the same in and out, and to whom nothing is said."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import asyncssh
import pytest
from carecsv_bench import SETTINGS, STARTS, visit, visit_record
from evidence import is_told
from fhir_bench import NotingGate

from partners.carecsv import partner as declaration
from partners.carecsv.partner import CARECSV
from partners.carecsv.places import Local
from partners.carecsv.sandbox.office import CareOffice, made_up, planned
from partners.carecsv.sandbox.sftp_server import PASSWORD, SftpServer
from partners.carecsv.sftp import Login, Sftp
from partners.certification.bench import LineFault
from partners.contract import Absent, Connection, Connector, Delivered, Entity, Refused, Retry, Unknown
from partners.errors import AuthenticationError, RejectedError, RetryableError
from resources.http import Http


@pytest.fixture
def office(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> CareOffice:
    monkeypatch.setattr(declaration, "STILL_SECONDS", 0.0)
    (tmp_path / "care").mkdir()
    made = CareOffice(tmp_path / "care")
    made.send([made_up(1, number) for number in range(1, 4)])
    return made


@pytest.fixture
def server(tmp_path: Path, office: CareOffice) -> Iterator[SftpServer]:
    made = SftpServer(tmp_path)
    with made.running():
        yield made


@contextmanager
def connected(
    server: SftpServer,
    *,
    path: str = "/care",
    secret: dict[str, str] | None = None,
    seconds: float = 20.0,
    **settings: str,
) -> Iterator[Connector]:
    url = f"sftp://127.0.0.1:{server.port}{path}"
    given = SETTINGS | {"host_key": server.host_key} | settings
    secret = {"user": "zest", "password": PASSWORD} if secret is None else secret
    client = Http(total_seconds=seconds).client()
    connector = CARECSV.open(Connection("hidamari", "carecsv", url, given), secret, client, NotingGate())
    try:
        yield connector
    finally:
        connector.close()


def test_clients_come_in_and_actuals_go_out(server: SftpServer, office: CareOffice) -> None:
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


def test_a_private_key_opens_it_too(server: SftpServer) -> None:
    key = server.users_key.export_private_key().decode()
    with connected(server, secret={"user": "zest", "private_key": key}) as connector:
        assert connector.check().server == "care CSV"


def test_to_another_server_nothing_is_said(server: SftpServer) -> None:
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
    server: SftpServer, changes: dict[str, Any], kind: type[Exception], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(kind, match=reason), connected(server, **changes) as connector:
        connector.check()
    assert PASSWORD not in caplog.text


def test_a_folder_that_may_not_be_listed_is_told_as_that(server: SftpServer) -> None:
    server.lists_to_nobody = True
    with connected(server) as connector, pytest.raises(RejectedError) as caught:
        list(connector.read(Entity.CLIENT, None))
    assert caught.value.reason == "folder_forbidden"
    is_told("folder_forbidden", caught.value.params)


@pytest.mark.parametrize("fault", [LineFault.SILENT_AT_LOGIN, LineFault.CUT_AT_LOGIN])
def test_a_login_that_gets_no_word_means_later_and_no_wrong_password(server: SftpServer, fault: LineFault) -> None:
    server.fault = fault
    with connected(server, seconds=2.0) as connector, pytest.raises(RetryableError, match="partner_unreachable"):
        connector.check()
    assert server.logins == 1


def test_a_server_that_hangs_up_after_it_refused_the_login_has_refused_it(server: SftpServer) -> None:
    server.hangs_up_when_refused = True
    for _ in range(5):
        with (
            connected(server, secret={"user": "zest", "password": "wrong"}) as connector,
            pytest.raises(AuthenticationError, match="credential_refused"),
        ):
            connector.check()


def test_a_byte_a_second_ends_at_the_deadline_before_the_login_and_after_it(server: SftpServer) -> None:
    befores: tuple[Callable[[Connector], object], ...] = (lambda _: None, lambda connector: connector.check())
    for before in befores:
        with connected(server, seconds=2.0) as connector:
            before(connector)
            server.fault, began = LineFault.SLOW, time.monotonic()
            with pytest.raises(RetryableError, match="partner_unreachable"):
                list(connector.read(Entity.CLIENT, None))
            assert time.monotonic() - began < 6.0
        server.fault = None


def test_what_could_not_be_put_is_taken_away_again(server: SftpServer, office: CareOffice) -> None:
    with connected(server) as connector:
        plan = visit()
        assert isinstance(connector.send(plan), Delivered)
        for fault in (LineFault.FULL, LineFault.RENAME_FAILS):
            server.fault = fault
            connector.send(visit_record(plan))
            assert not list(office.base.glob("*/.*.part")), fault
        server.fault = None
        assert isinstance(connector.send(visit_record(plan)), Delivered)
    assert len(office.take()) == 1


def put_with_odd_name(office: CareOffice, begins: str = "") -> None:
    Path(os.fsdecode(os.fsencode(office.folder) + f"/{begins}計画.CSV".encode("cp932"))).touch()


def test_a_file_whose_name_is_no_utf8_is_passed_over_as_in_a_folder(server: SftpServer, office: CareOffice) -> None:
    put_with_odd_name(office)
    with connected(server) as connector:
        (page,) = connector.read(Entity.CLIENT, None)
        assert len(page.records) == 3
    by_sftp = Sftp("127.0.0.1", server.port, "/care", Login("zest", PASSWORD), server.host_key)
    there, here = ({name for name, _ in place.files(office.folder.name)} for place in (by_sftp, Local(office.base)))
    by_sftp.close()
    assert there == here


def test_a_clients_file_whose_name_is_no_utf8_is_told_in_letters_that_can_be_stored(
    server: SftpServer, office: CareOffice
) -> None:
    put_with_odd_name(office, "UPHOSOKU_")
    with connected(server) as connector, pytest.raises(RejectedError) as caught:
        list(connector.read(Entity.CLIENT, None))
    assert caught.value.params == {"file": "UPHOSOKU_?v??.CSV", "why": "name"}
    is_told("file_unreadable", caught.value.params)


def test_a_server_that_is_away_means_later(server: SftpServer) -> None:
    away = SftpServer(server.root, port=1)
    with connected(away) as connector:
        with pytest.raises(RetryableError, match="partner_unreachable"):
            connector.check()
        assert connector.send(visit()) == Retry("partner_unreachable")


def test_a_connection_that_ends_in_a_write_leaves_doubt_and_the_next_call_makes_another(
    server: SftpServer, office: CareOffice
) -> None:
    with connected(server) as connector:
        plan = visit()
        assert isinstance(connector.send(plan), Delivered)
        server.fault = LineFault.CUT_AT_RENAME
        record = visit_record(plan)
        assert connector.send(record) == Unknown("connection_cut_unsure")
        server.fault = None
        assert connector.find(record) == Absent()
        assert isinstance(connector.send(record), Delivered)
    assert len(office.take()) == 1


def test_plans_come_in_as_from_a_folder(server: SftpServer, office: CareOffice) -> None:
    office.send_plans([planned(made_up(1, 1), STARTS, STARTS + timedelta(hours=1))], "202612")
    assert CARECSV.read_plans is not None
    with connected(server) as connector:
        (page,) = CARECSV.read_plans(connector, None)
    (plan,) = page.plans
    assert plan.services is not None
    assert [(each.starts, each.ends) for each in plan.services] == [("09:30", "10:30")]
