"""Where each kind of process gets the URL of its own database login.

One table is written by one login, so every process kind connects as itself. The passwords live in one
file of mode 0600 or in the environment, never in a repr, and never in the configuration of Dagster.
TLS for a distant server is libpq's own business: PGSSLMODE and PGSSLROOTCERT work with every URL made here.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote, urlencode

from resources.private_files import read_private, write_private


class Login(StrEnum):
    """The database's logins; each value is the role's name."""

    MIGRATOR = "zest_migrator"
    OPERATOR = "zest_operator"
    PRODUCT = "zest_product"
    LAND = "zest_land"
    DIFF = "zest_diff"
    APPLY = "zest_apply"
    ACCUMULATE = "zest_accumulate"
    PUSH = "zest_push"
    BUDGET = "zest_budget"
    SCHEDULE = "zest_schedule"
    BOARD = "zest_board"
    ALERT = "zest_alert"
    DAGSTER = "zest_dagster"

    @property
    def password_variable(self) -> str:
        """The environment variable that overrides this login's password: ZEST_PASSWORD_PUSH for zest_push."""
        return f"ZEST_PASSWORD_{self.value.removeprefix('zest_').upper()}"


class LoginsError(Exception):
    """The logins are missing or unreadable; the message names the next step and no password."""


# A network that swallows packets must not hang a run: without these, a dead peer is noticed after two hours.
_CONNECTION = {
    "connect_timeout": "10",
    "keepalives": "1",
    "keepalives_idle": "30",
    "keepalives_interval": "10",
    "keepalives_count": "3",
}


@dataclass(frozen=True, slots=True)
class Logins:
    """Server, databases and passwords of the logins."""

    host: str  # a host name or address, or the absolute path of a socket's directory
    port: int
    passwords: Mapping[Login, str] = field(repr=False)
    database: str = "zest"
    dagster_database: str = "dagster"

    @classmethod
    def generate(
        cls,
        host: str,
        port: int,
        *,
        known: Mapping[Login, str] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Logins:
        """Logins with a password each: from the environment, else the `known` one, else a new random one."""
        passwords = {
            login: environ.get(login.password_variable) or (known or {}).get(login) or secrets.token_urlsafe(24)
            for login in Login
        }
        return cls(host=host, port=port, passwords=passwords)

    @classmethod
    def from_file(cls, path: Path, environ: Mapping[str, str] = os.environ) -> Logins:
        """The logins that `write` left at `path`; passwords in the environment go before those in the file.

        A login of a newer or older version may be missing: asking for its URL says so.
        Raises LoginsError for no file or an unreadable one, PrivateFileError if others may read it.
        """
        try:
            content = json.loads(read_private(path))
            return cls(
                host=str(content["host"]),
                port=int(content["port"]),
                passwords=_overridden(content["passwords"], environ),
                database=str(content["database"]),
                dagster_database=str(content["dagster_database"]),
            )
        except FileNotFoundError:
            raise LoginsError(f"There is no {path}: run `zest init` first") from None
        except (ValueError, KeyError, TypeError, AttributeError):
            # The cause can quote the file, and with it a password.
            raise LoginsError(f"{path} is damaged: restore it, or remove it and run `zest init` again") from None

    def write(self, path: Path) -> None:
        """Keep the logins at `path` (mode 0600), whole or not at all."""
        content = {
            "host": self.host,
            "port": self.port,
            "database": self.database,
            "dagster_database": self.dagster_database,
            "passwords": {login.value: password for login, password in self.passwords.items()},
        }
        write_private(path, json.dumps(content, indent=2) + "\n")

    def password(self, login: Login) -> str:
        """The login's password. Raises LoginsError where there is none."""
        try:
            return self.passwords[login]
        except KeyError:
            raise LoginsError(
                f"No password for {login}: run `zest init` again, or set {login.password_variable}"
            ) from None

    def url(self, login: Login) -> str:
        """For SQLAlchemy with psycopg 3."""
        return self._url("postgresql+psycopg", login, self.database)

    def libpq_url(self, login: Login) -> str:
        """For psql, psycopg and people."""
        return self._url("postgresql", login, self.database)

    def dagster_url(self) -> str:
        """For Dagster's storage, which needs psycopg2: SQLAlchemy takes a plain URL to mean psycopg 3."""
        return self._url("postgresql+psycopg2", Login.DAGSTER, self.dagster_database)

    def _url(self, scheme: str, login: Login, database: str) -> str:
        query = {**_CONNECTION, "application_name": login.value}
        if self.host.startswith("/"):
            query = {"host": self.host, "port": str(self.port), **query}
            address = ""
        else:
            address = f"{_bracketed(self.host)}:{self.port}"
        user = f"{quote(login.value, safe='')}:{quote(self.password(login), safe='')}"
        # `/` stays readable in a socket's path; spaces are %20, as libpq does not know `+`.
        parameters = urlencode(query, safe="/", quote_via=quote)
        return f"{scheme}://{user}@{address}/{quote(database, safe='')}?{parameters}"


def _overridden(stored: Mapping[str, str], environ: Mapping[str, str]) -> dict[Login, str]:
    known = set(Login)
    passwords = {Login(name): str(password) for name, password in stored.items() if name in known}
    given = {login: environ.get(login.password_variable, "") for login in Login}
    return passwords | {login: password for login, password in given.items() if password}


def _bracketed(host: str) -> str:
    return f"[{host}]" if ":" in host else host
