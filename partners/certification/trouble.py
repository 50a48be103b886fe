"""Rows about what only looks, readings and read-backs, when no data come: each ends in the class that says whose turn
it is, makes no further call, and the gate hears what was said of the limits.

A partner's trouble that is told as a user's fault stops the connection until somebody has looked for what is not there;
a read-back that takes it for an answer makes a second record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

from partners.certification.bench import NotOffered
from partners.certification.relay import CLOSED, Instead, Spoil, plain
from partners.certification.trial import READ_BACK, NotingGate, Trial, broken, require, told, unnamed
from partners.certification.writing import FEW_CUTS
from partners.contract import Command, Connector, Entity
from partners.errors import AuthenticationError, Deferred, PartnerError, RetryableError
from partners.reasons import ReasonScope, reason

Look = Callable[[Connector], object]

_CHECK, _PAGE = "the check", "a web page with 200"
_HTML = b"<html><body>error</body></html>"
_TROUBLES: tuple[tuple[str, Instead | Spoil], ...] = (
    ("500", Instead(plain(500))),
    ("502 with a web page", Instead(plain(502, _HTML, "content-type: text/html"))),
    ("504 with a web page", Instead(plain(504, _HTML, "content-type: text/html"))),
    (_PAGE, Instead(plain(200, _HTML, "content-type: text/html"))),
    *((f"an answer cut {where}", cut) for where, cut in FEW_CUTS),
)


def throttled(trial: Trial) -> None:
    """A 429 to whatever looks is tried again, once the gate says so: it hears for how long, and of no further call."""
    for what, look in _looks(trial):
        heard = _ended(trial, what, look, "429", Instead(plain(429, b"", "retry-after: 7")))
        require((True, 7) in heard, f"{what}: the gate did not hear of the seconds that a 429 names")


def throttled_there(trial: Trial) -> None:
    """Too many calls in the partner's own dialect, likewise."""
    for what, look in _looks(trial):
        gate = NotingGate()
        trial.bench.throttle()
        try:
            with trial.connected(gate=gate) as connector:
                look(connector)
        except RetryableError as error:
            require(reason(error.reason).retried, f"{what}: {error.reason} is not retried")
        except PartnerError as error:
            broken(f"{what}: it ends with {told(error)}")
        else:
            broken(f"{what}: it goes to its end")
        finally:
            trial.bench.heal()
        is_heard = any(each.is_refusal for each in gate.told) or not trial.bench.tells_gate
        require(is_heard, f"{what}: the gate did not hear of it")


def closed(trial: Trial) -> None:
    """While it is closed for the night (503, a web page) the whole connection waits; the gate hears for how long."""
    for what, look in _looks(trial):
        heard = _ended(trial, what, look, "503", Instead(CLOSED))
        require((False, 60) in heard, f"{what}: the gate did not hear of the seconds that a 503 names")


def failing(trial: Trial) -> None:
    """A failure, a web page, a line that is cut are the partner's or the network's and tried again, whichever call they
    befall; a refused credential is told as one."""
    for what, look in _looks(trial):
        calls = trial.counted(lambda url, look=look: _looked(trial, look, url))  # type: ignore[misc]
        for name, fault in _TROUBLES:
            if (what, name) == (_CHECK, _PAGE):
                continue  # so answers, too, what is not the partner: to say that is what a check is for
            for number in sorted({1, calls}):
                _ended(trial, what, look, name, fault, number)
        with trial.relay() as relay:
            relay.fault = lambda _: Instead(plain(401))
            try:
                _looked(trial, look, relay.url)
            except AuthenticationError:
                continue
            except PartnerError as error:
                broken(f"{what}: a 401 is told as {told(error)}")
        broken(f"{what}: goes to its end in spite of a 401")


def _looks(trial: Trial) -> Iterator[tuple[str, Look]]:
    """All that only looks, by what it is."""
    bench = trial.bench
    if not bench.is_http:
        raise NotOffered("it exchanges files, not HTTP")
    for entity in bench.partner.reads:
        partner_id = next(iter(sorted(bench.hold(entity, max(1, bench.sizes[entity].least)))))
        yield f"to read {entity}", partial(_read, entity)
        yield f"to fetch a {entity}", partial(_fetch, entity, partner_id)
    if bench.partner.reads:
        yield _CHECK, lambda connector: connector.check()
    elif trial.capability.recovery not in READ_BACK:
        raise NotOffered("it is neither read nor read back")
    if trial.capability.recovery in READ_BACK:
        for entity in bench.writes:
            known = trial.delivered(entity)
            yield f"to find a {entity} by its id", partial(_find, known)
            yield f"to search for a {entity}", partial(_find, unnamed(known))


def _read(entity: Entity, connector: Connector) -> object:
    return list(connector.read(entity, None))


def _fetch(entity: Entity, partner_id: str, connector: Connector) -> object:
    return connector.fetch(entity, partner_id)


def _find(command: Command, connector: Connector) -> object:
    return connector.find(command)


def _looked(trial: Trial, look: Look, url: str, gate: NotingGate | None = None) -> None:
    with trial.connected(url=url, gate=gate) as connector:
        look(connector)


def _ended(
    trial: Trial, what: str, look: Look, name: str, fault: Instead | Spoil, number: int = 1
) -> set[tuple[bool, float]]:
    """What the gate heard: whether it was a refusal, and how many seconds to rest. Broken unless it is tried again."""
    gate, at = NotingGate(), f"{what}, {name}"
    with trial.relay() as relay:
        relay.fault = lambda call: fault if call == number else None
        try:
            _looked(trial, look, relay.url, gate)
        except Deferred:
            broken(f"{at}: ends as put off by the gate")
        except RetryableError as error:
            require(reason(error.reason).retried, f"{at}: {error.reason} is not retried")
            is_of_all = name != "503" or reason(error.reason).scope is ReasonScope.CONNECTION
            require(is_of_all, f"{at}: {error.reason} is not of the whole connection")
        except PartnerError as error:
            broken(f"{at}: it ends with {told(error)}")
        else:
            broken(f"{at}: it goes to its end")
        require(relay.calls == number, f"{at}: it was called again")
    return {(each.is_refusal, each.rest.total_seconds()) for each in gate.told if each.rest is not None}
