"""What an unchanged tenant costs beyond its partner's answers: land, diff and apply, the connector without a socket."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import median
from urllib.parse import parse_qs

import httpx
from stage.installation import PARTNER
from stage.patients import pages
from stage.reader_process import services_for
from stage.readers import Ground, connect

from partners.contract import Entity
from resources.http import PLAIN, Http
from resources.tls import Tls
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.store.database import Database

_PAGE_SIZE = 200
_WARMING = 5


@dataclass(frozen=True)
class _Memory(Http):
    """Answers out of memory, at once."""

    answers: Sequence[bytes] = ()

    def client(self, tls: Tls = PLAIN, before_sending: Callable[[], None] | None = None) -> httpx.Client:
        """See Http."""
        hooks = {"request": [lambda _: before_sending()]} if before_sending is not None else {}
        return httpx.Client(transport=httpx.MockTransport(self._answer), event_hooks=hooks)

    def _answer(self, request: httpx.Request) -> httpx.Response:
        page = int(parse_qs(request.url.query.decode()).get("page", ["0"])[0])
        return httpx.Response(200, headers={"content-type": "application/fhir+json"}, content=self.answers[page])


def milliseconds(ground: Ground, clients: int, times: int) -> dict[str, float]:
    """The middle one of so many nights, by station and together."""
    database = Database(ground.logins)
    connect(database, "small", "http://partner.invalid/small")
    http = _Memory(answers=tuple(pages(clients, _PAGE_SIZE, changed=False)))
    services = replace(services_for(database), http=http)
    stations: dict[str, Callable[[], object]] = {
        "land": lambda: land(services, PARTNER, "small", Entity.CLIENT),
        "diff": lambda: diff(services, PARTNER, "small", Entity.CLIENT),
        "apply": lambda: apply(services, PARTNER, "small", Entity.CLIENT),
    }
    for station in stations.values():
        station()
    ground.as_admin("VACUUM ANALYZE")
    nights = [{name: _timed(station) for name, station in stations.items()} for _ in range(times + _WARMING)]
    database.close()
    found = {name: round(median(each[name] for each in nights[_WARMING:]), 1) for name in stations}
    return found | {"together": round(median(sum(each.values()) for each in nights[_WARMING:]), 1)}


def _timed(station: Callable[[], object]) -> float:
    started = time.perf_counter()
    station()
    return 1000 * (time.perf_counter() - started)
