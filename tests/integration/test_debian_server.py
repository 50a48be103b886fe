"""The same grants on a PostgreSQL that the operating system brings, over TCP with passwords: how a server that is
already there is used (ZEST_DATABASE_URL). The embedded one has a socket only, and another version."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from threading import Thread

import grant_matrix
import psycopg
import pytest
from debian_cluster import PASSWORD, Cluster, debian_cluster

from resources.logins import Login, Logins
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import SchemaError, StoreError
from zest_pipelines.store.installation import check_schema, install


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    with debian_cluster(tmp_path_factory.mktemp("debian")) as made:
        yield made


@pytest.fixture(scope="module")
def installed(cluster: Cluster) -> Logins:
    """Logins of a server on which two installations began at once, with nothing there before them."""
    logins = Logins.generate("127.0.0.1", cluster.port, environ={})
    failed: list[StoreError] = []

    def run() -> None:
        try:
            install(cluster.admin_url, logins)
        except StoreError as error:
            failed.append(error)

    threads = [Thread(target=run) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    return logins


def test_two_installations_at_once_make_one_schema(installed: Logins) -> None:
    check_schema(installed)


def test_logins_are_asked_for_their_passwords(installed: Logins) -> None:
    with psycopg.connect(installed.libpq_url(Login.PUSH)) as connection:
        assert connection.pgconn.used_password
        row = connection.execute("SELECT current_user::text, inet_client_addr() IS NOT NULL").fetchone()
    assert row == ("zest_push", True)


def test_the_grants_are_the_matrix_here_too(cluster: Cluster, installed: Logins) -> None:
    def connect(login: Login) -> psycopg.Connection:
        return psycopg.connect(installed.libpq_url(login), autocommit=True)

    with psycopg.connect(cluster.admin_url, dbname=installed.database) as admin:
        assert grant_matrix.mismatches(admin) == []
        assert grant_matrix.false_answers(admin, connect) == []
        assert grant_matrix.calls_of_others(admin, connect) == []


def test_a_login_may_not_enter_the_other_database(installed: Logins) -> None:
    for login, other in ((Login.DAGSTER, installed.database), (Login.PUSH, installed.dagster_database)):
        url = replace(installed, database=other).libpq_url(login)
        with pytest.raises(psycopg.OperationalError, match="permission denied for database"):
            psycopg.connect(url)


def test_a_wrong_password_ends_in_one_clear_sentence(installed: Logins) -> None:
    wrong = replace(installed, passwords=dict.fromkeys(Login, "a-wrong-one"))
    database = Database(wrong)
    with pytest.raises(SchemaError) as refused, database.transaction(Login.PUSH, "sakura"):
        pytest.fail("a wrong password was let in")
    database.close()
    assert str(refused.value) == "the database refuses the login's password: run `zest init` again"
    with pytest.raises(SchemaError, match="zest init"):
        check_schema(wrong)


def test_a_wrong_administrators_password_ends_in_one_clear_sentence(cluster: Cluster, installed: Logins) -> None:
    with pytest.raises(StoreError) as refused:
        install(cluster.admin_url.replace(PASSWORD, "another"), installed)
    assert str(refused.value) == "the server refuses the administrator: correct what ZEST_DATABASE_URL says"


def test_installing_with_other_passwords_renews_them(cluster: Cluster, installed: Logins) -> None:
    renewed = Logins.generate("127.0.0.1", cluster.port, environ={})
    install(cluster.admin_url, renewed)
    check_schema(renewed)
    with pytest.raises(SchemaError, match="password"):
        check_schema(installed)
    install(cluster.admin_url, installed)
    check_schema(installed)
