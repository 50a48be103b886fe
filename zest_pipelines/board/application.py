"""The board's web application: pages for people, JSON for the product. It reads, and writes nothing but the audit log.

Who asks shows a token that opens one tenant: as `Authorization: Bearer`, or entered once and kept in a cookie that no
script can read. The tenant is the token's; no address names one, so none can be guessed. Pages run no script.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime
from functools import wraps
from importlib.resources import files
from typing import Any
from urllib.parse import parse_qs, urlencode
from uuid import UUID

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse, RedirectResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from partners.contract import Entity
from partners.reasons import Language
from partners.windows import JAPAN
from resources.logins import Login
from zest_pipelines.board import answers
from zest_pipelines.board.answers import Json
from zest_pipelines.board.words import words
from zest_pipelines.core.badge import Badge
from zest_pipelines.store import board_tokens
from zest_pipelines.store.database import Database, Transaction
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.tenants import audit

_log = logging.getLogger(__name__)

_COOKIE, _LANGUAGE = "board", "lang"
_COOKIE_SECONDS = 12 * 60 * 60
_MOST_FORM = 4096
"""Bytes of what is entered."""
_HEADERS = {
    "cache-control": "no-store",
    "content-security-policy": "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True)
class Reader:
    """Who asks."""

    tenant: str
    name: str
    """Of the token."""


class _Problem(Exception):  # noqa: N818  # what is answered instead
    """`word` is the key of its words; with `_hint`, what to do next."""

    def __init__(self, status: int, word: str) -> None:
        super().__init__(word)
        self.status, self.word = status, word


Answering = Callable[[Transaction, Reader, Request, Language], Json | None]


class Board:
    """The pages and the JSON over one database."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._pages = Environment(
            loader=PackageLoader("zest_pipelines.board"), autoescape=True, undefined=StrictUndefined
        )
        self._pages.filters |= {"jst": _jst, "query": urlencode, "json": _spelled}

    def application(self) -> Starlette:
        """To be served."""
        shown = {
            "/": ("overview.html", _overview),
            "/records": ("records.html", _group),
            "/records/{entity}/{record_id}": ("record.html", _record),
            "/records/{entity}/{record_id}/calls": ("calls.html", _calls),
        }
        pages = [Route(path, self._page(*how), name=how[0]) for path, how in shown.items()]
        told = [Route(f"/api{path.rstrip('/') or '/overview'}", self._json(how[1])) for path, how in shown.items()]
        return Starlette(
            routes=[
                *pages,
                *told,
                Route("/sign-in", self._sign_in, methods=["GET", "POST"]),
                Route("/sign-out", _sign_out, methods=["POST"]),
                Route("/board.css", _css),
                Route("/healthz", _healthz),
            ],
            middleware=[Middleware(_SafeHeaders)],
            exception_handlers={404: self._not_found, 405: self._not_found},
        )

    # --- Two ways to answer the same ----------------------------------------------------------------------------------

    def _page(self, template: str, answering: Answering) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            token = request.cookies.get(_COOKIE, "")
            try:
                told = await run_in_threadpool(self._answer, answering, token, request)
            except _Problem as problem:
                if problem.status == 401:
                    return RedirectResponse(f"/sign-in?{_LANGUAGE}={_language(request)}", 303)
                return self._shown("problem.html", request, problem.status, problem=problem.word)
            return self._shown(template, request, told=told)

        return answer

    def _json(self, answering: Answering) -> Callable[[Request], Awaitable[Response]]:
        async def answer(request: Request) -> Response:
            scheme, _, token = request.headers.get("authorization", "").partition(" ")
            try:
                told = await run_in_threadpool(
                    self._answer, answering, token.strip() if scheme.lower() == "bearer" else "", request
                )
            except _Problem as problem:
                return _problem_json(problem, _language(request))
            return JSONResponse(told)

        return answer

    def _answer(self, answering: Answering, token: str, request: Request) -> Json:
        """Raises _Problem."""
        split = board_tokens.split(token)
        if split is None:
            raise _Problem(401, "token_refused")
        tenant, secret = split
        try:
            with self._database.transaction(Login.BOARD, tenant) as tx:
                name = board_tokens.reader(tx, tenant, secret)
                if name is None:
                    raise _Problem(401, "token_refused")
                told = answering(tx, Reader(tenant, name), request, _language(request))
        except StoreError as error:
            _log.warning("The board cannot answer: %s", error)
            raise _Problem(503, "failed") from None
        if told is None:
            raise _Problem(404, "not_found")
        return told

    def _shown(self, template: str, request: Request, status: int = 200, **content: Any) -> Response:
        language = _language(request)
        here = {name: value for name, value in request.query_params.items() if name != _LANGUAGE}
        other = Language.ENGLISH if language is Language.JAPANESE else Language.JAPANESE
        page = self._pages.get_template(template).render(
            word=words(language),
            lang=language.value,
            there=f"{request.url.path}?{urlencode({**here, _LANGUAGE: other.value})}",
            most=answers.MOST_LISTED,
            is_signed_in=_COOKIE in request.cookies,
            **content,
        )
        return HTMLResponse(page, status)

    # --- Coming and going ---------------------------------------------------------------------------------------------

    async def _sign_in(self, request: Request) -> Response:
        if request.method == "GET":
            return self._shown("sign_in.html", request, is_refused=False)
        length = request.headers.get("content-length", "")
        if not length.isdecimal() or int(length) > _MOST_FORM:
            return self._shown("sign_in.html", request, 413, is_refused=True)
        entered = parse_qs((await request.body()).decode(errors="replace"))
        token = entered.get("token", [""])[0].strip()
        try:
            await run_in_threadpool(self._answer, lambda *_: {}, token, request)
        except _Problem as problem:
            if problem.status == 401:
                return self._shown("sign_in.html", request, 401, is_refused=True)
            return self._shown("problem.html", request, problem.status, problem=problem.word)
        answer = RedirectResponse(f"/?{_LANGUAGE}={_language(request)}", 303)
        is_secure = request.url.scheme == "https"
        answer.set_cookie(_COOKIE, token, _COOKIE_SECONDS, httponly=True, samesite="strict", secure=is_secure)
        return answer

    async def _not_found(self, request: Request, _: Exception) -> Response:
        problem = _Problem(404, "not_found")
        if request.url.path.startswith("/api/"):
            return _problem_json(problem, _language(request))
        return self._shown("problem.html", request, problem.status, problem=problem.word)


# --- What is answered -------------------------------------------------------------------------------------------------


def _checked(answering: Answering) -> Answering:
    """What is asked for in no form that anything has is not there."""

    @wraps(answering)
    def answer(tx: Transaction, reader: Reader, request: Request, language: Language) -> Json | None:
        try:
            return answering(tx, reader, request, language)
        except (ValueError, KeyError):
            return None

    return answer


def _overview(tx: Transaction, reader: Reader, _: Request, language: Language) -> Json:
    return answers.overview(tx, reader.tenant, language)


@_checked
def _group(tx: Transaction, reader: Reader, request: Request, language: Language) -> Json:
    asked = request.query_params
    entity, badge = Entity(asked["entity"]), Badge(asked["badge"])
    partner, reason = _text(asked["partner"]), _text(asked.get("reason", "")) or None
    return answers.group(tx, reader.tenant, partner, entity, badge, reason, language)


@_checked
def _record(tx: Transaction, reader: Reader, request: Request, language: Language) -> Json | None:
    return answers.record(tx, reader.tenant, *_named(request), language)


@_checked
def _calls(tx: Transaction, reader: Reader, request: Request, language: Language) -> Json | None:
    entity, record_id = _named(request)
    if answers.record(tx, reader.tenant, entity, record_id, language) is None:
        return None
    told = answers.calls(tx, reader.tenant, entity, record_id)
    for partner in sorted({each["partner"] for each in told["calls"]}):
        detail = {"entity": entity.value, "record": str(record_id), "token": reader.name}
        audit(tx, reader.tenant, "show_calls", partner, detail)
    return told


def _named(request: Request) -> tuple[Entity, UUID]:
    return Entity(request.path_params["entity"]), UUID(request.path_params["record_id"])


def _text(given: str) -> str:
    """ValueError for what no database takes."""
    if "\0" in given:
        raise ValueError("NUL")
    return given


def _problem_json(problem: _Problem, language: Language) -> Response:
    told = words(language)
    content = {"message": told[problem.word], "next_action": told.get(f"{problem.word}_hint", told["token_hint"])}
    headers = {"www-authenticate": "Bearer"} if problem.status == 401 else None
    return JSONResponse(content, problem.status, headers)


async def _sign_out(request: Request) -> Response:
    answer = RedirectResponse(f"/sign-in?{_LANGUAGE}={_language(request)}", 303)
    answer.delete_cookie(_COOKIE)
    return answer


async def _css(_: Request) -> Response:
    return Response(files("zest_pipelines.board").joinpath("board.css").read_text(), media_type="text/css")


async def _healthz(_: Request) -> Response:
    return Response("ok", media_type="text/plain")


def _language(request: Request) -> Language:
    """The one that was chosen, else what the browser prefers, else Japanese."""
    chosen = request.query_params.get(_LANGUAGE) or request.headers.get("accept-language", "")[:2].lower()
    return Language.ENGLISH if chosen == Language.ENGLISH.value else Language.JAPANESE


def _jst(moment: str | None) -> str:
    """As people in Japan read it."""
    return "" if moment is None else datetime.fromisoformat(moment).astimezone(JAPAN).strftime("%Y-%m-%d %H:%M:%S")


def _spelled(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, indent=2)


class _SafeHeaders:
    """Adds to each answer what keeps it from being kept, framed, sniffed or scripted."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """As ASGI says."""

        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                added = [(name.encode(), value.encode()) for name, value in _HEADERS.items()]
                message["headers"] = [*message.get("headers", ()), *added]
            await send(message)

        await self._app(scope, receive, with_headers)


def board(database: Database) -> Starlette:
    """The application over `database`."""
    return Board(database).application()
