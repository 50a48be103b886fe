"""The database logins: their URLs, their file, and what must not be seen of them."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest
from psycopg.conninfo import conninfo_to_dict
from sqlalchemy import create_engine
from sqlalchemy.engine import make_url

from resources.logins import Login, Logins, LoginsError
from resources.private_files import PrivateFileError

AWKWARD = "p@ss:w/rd?#%&+ 'é"


def logins(host: str, password: str = AWKWARD) -> Logins:
    return Logins(host=host, port=6543, passwords=dict.fromkeys(Login, password))


@pytest.mark.parametrize("host", ["/run/zest pg/50%/法人", "db.example.jp", "::1"])
def test_libpq_reads_back_server_login_and_password_from_a_url(host: str) -> None:
    read = conninfo_to_dict(logins(host).libpq_url(Login.PUSH))

    assert (read["host"], read["port"]) == (host, "6543")
    assert (read["user"], read["password"], read["dbname"]) == ("zest_push", AWKWARD, "zest")
    assert read["application_name"] == "zest_push"
    assert "connect_timeout" in read
    assert "keepalives_idle" in read


@pytest.mark.parametrize("host", ["/run/zest pg/50%/法人", "db.example.jp", "::1"])
def test_sqlalchemy_hands_the_driver_the_same_server_login_and_password(host: str) -> None:
    engine = create_engine(logins(host).url(Login.LAND))
    _, arguments = engine.dialect.create_connect_args(engine.url)

    assert engine.dialect.driver == "psycopg"
    assert (arguments["host"], int(arguments["port"])) == (host, 6543)
    assert (arguments["user"], arguments["password"], arguments["dbname"]) == ("zest_land", AWKWARD, "zest")
    assert arguments["application_name"] == "zest_land"


def test_dagster_gets_its_own_database_through_psycopg2() -> None:
    url = make_url(logins("/run/pg").dagster_url())

    assert (url.drivername, url.username, url.database) == ("postgresql+psycopg2", "zest_dagster", "dagster")
    assert url.query["host"] == "/run/pg"


def test_a_repr_holds_no_password() -> None:
    assert "s3cret" not in repr(logins("/run/pg", password="s3cret"))


def test_what_was_written_is_read_back_and_only_its_owner_may_read_it(tmp_path: Path) -> None:
    path = tmp_path / "logins.json"
    made = Logins.generate("/run/pg", 5432, environ={})

    made.write(path)

    assert Logins.from_file(path, environ={}) == made
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]


def test_writing_over_a_file_open_to_others_makes_it_private(tmp_path: Path) -> None:
    path = tmp_path / "logins.json"
    path.write_text("{}")
    path.chmod(0o644)

    logins("/run/pg").write(path)

    assert Logins.from_file(path, environ={}) == logins("/run/pg")


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_file_open_to_others_is_refused_with_the_command_that_closes_it(tmp_path: Path, mode: int) -> None:
    path = tmp_path / "logins.json"
    logins("/run/pg").write(path)
    path.chmod(mode)

    with pytest.raises(PrivateFileError, match="chmod 600"):
        Logins.from_file(path, environ={})


def test_generated_passwords_are_long_and_differ_from_login_to_login() -> None:
    passwords = Logins.generate("/run/pg", 5432, environ={}).passwords

    assert set(passwords) == set(Login)
    assert len(set(passwords.values())) == len(Login)
    assert all(len(password) >= 32 for password in passwords.values())


def test_a_second_generation_keeps_known_passwords_and_the_environment_goes_first() -> None:
    known = {Login.PUSH: "kept", Login.LAND: "replaced"}
    environ = {"ZEST_PASSWORD_LAND": "given", "ZEST_PASSWORD_PUSH": ""}

    made = Logins.generate("/run/pg", 5432, known=known, environ=environ)

    assert (made.password(Login.PUSH), made.password(Login.LAND)) == ("kept", "given")


def test_a_password_in_the_environment_goes_before_the_file(tmp_path: Path) -> None:
    path = tmp_path / "logins.json"
    logins("/run/pg", password="old").write(path)

    read = Logins.from_file(path, environ={"ZEST_PASSWORD_PUSH": "new", "ZEST_PASSWORD_LAND": ""})

    assert (read.password(Login.PUSH), read.password(Login.LAND)) == ("new", "old")


def test_a_missing_file_names_the_command_that_makes_it(tmp_path: Path) -> None:
    with pytest.raises(LoginsError, match="zest init"):
        Logins.from_file(tmp_path / "logins.json", environ={})


def test_a_login_without_password_names_the_variable_that_gives_one() -> None:
    bare = Logins(host="/run/pg", port=5432, passwords={})

    with pytest.raises(LoginsError, match="ZEST_PASSWORD_BUDGET"):
        bare.url(Login.BUDGET)


@pytest.mark.parametrize(
    "damage", ['{"host": "/run/pg", "passwords": {"zest_push": "s3cret"', "[]", '{"port": "s3cret"}']
)
def test_a_damaged_file_is_told_without_quoting_it(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "logins.json"
    path.write_text(damage)
    path.chmod(0o600)

    with pytest.raises(LoginsError, match="damaged") as caught:
        Logins.from_file(path, environ={})

    assert "s3cret" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__


def test_a_login_of_another_version_does_not_make_the_file_unreadable(tmp_path: Path) -> None:
    path = tmp_path / "logins.json"
    logins("/run/pg").write(path)
    content = json.loads(path.read_text())
    content["passwords"]["zest_of_tomorrow"] = "x"
    path.write_text(json.dumps(content))

    assert Logins.from_file(path, environ={}) == logins("/run/pg")
