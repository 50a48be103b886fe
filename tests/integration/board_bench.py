"""A board over real sockets, and callers of it."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import uvicorn

from resources.logins import Login
from zest_pipelines.board.application import board
from zest_pipelines.board.patience import ImpatientProtocol
from zest_pipelines.store import board_tokens
from zest_pipelines.store.database import Database


@contextmanager
def serving(database: Database) -> Iterator[str]:
    """Its address."""
    config = uvicorn.Config(
        board(database), port=0, log_level="critical", limit_concurrency=200, http=ImpatientProtocol
    )
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        end = time.monotonic() + 10
        while not server.started and time.monotonic() < end:
            time.sleep(0.02)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


def token_of(database: Database, tenant: str, name: str = "product") -> str:
    """A new token of the tenant's."""
    with database.transaction(Login.OPERATOR, tenant) as tx:
        return board_tokens.add(tx, tenant, name)


def caller(address: str, token: str = "") -> httpx.Client:
    """The product, which shows the token."""
    headers = {"authorization": f"Bearer {token}"} if token else {}
    return httpx.Client(base_url=address, headers=headers, trust_env=False, timeout=10)


@contextmanager
def visitor(address: str, token: str = "", language: str = "ja") -> Iterator[httpx.Client]:
    """A person with a browser, who has entered the token, if there is one."""
    headers = {"accept-language": language}
    with httpx.Client(base_url=address, trust_env=False, timeout=10, headers=headers) as client:
        if token:
            assert client.post("/sign-in", data={"token": token}).status_code == 303
        yield client
