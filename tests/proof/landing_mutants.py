"""Rules of the way in, each broken on purpose: a scene of `landing_scenes` must be seen to notice.

A mutant is patched into the process that lands or applies; the product's code knows of none.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass, replace
from typing import Any

from swaps import Swap, swapped

from partners.contract import Gone
from partners.fhir import codes
from partners.fhir.client import FhirConnector
from partners.fhir.reading import Marks
from resources.logins import Login
from zest_pipelines.core import identity
from zest_pipelines.core.certificate import Certificate, Seen
from zest_pipelines.core.guard import Counts, hold
from zest_pipelines.flows import land, plan, versions
from zest_pipelines.flows.pages import Pages
from zest_pipelines.store import approvals, identities, landing, masters, sightings, suspicions
from zest_pipelines.store.landing import Conclusion


@dataclass(frozen=True)
class LandingMutant:
    """One rule, broken."""

    breaks: str
    """What is not done any more."""
    promise: str
    """What then falls."""
    scene: str
    """The name of the scene that catches it."""
    notices: str
    """What the scene says then."""
    swaps: tuple[Swap, ...]

    def applied(self) -> AbstractContextManager[None]:
        """Within the block, the rule is broken in this process."""
        return swapped(self.swaps)


def at_work(name: str | None) -> AbstractContextManager[None]:
    """Within the block, the mutant is at work in this process; None: none is."""
    return ExitStack() if name is None else LANDING_MUTANTS[name].applied()


# --- How the rules are broken ---------------------------------------------------------------------------------------


def _always(value: object) -> Callable[[Any], Any]:
    return lambda _: lambda *_, **__: value


def _without(name: str) -> Callable[[Any], Any]:
    return lambda real: lambda *given, **named: replace(real(*given, **named), **{name: 0})


def _true_of_all(_: Any) -> Any:
    return property(lambda _: True)


def _by_status(_: Any) -> Any:
    return lambda answered: answered.status in (404, 410)


def _and_forget(real: Any) -> Any:
    def end(tx: Any, reading: Any, verdict: Any) -> bool:
        sightings.forget(tx, reading)
        return bool(real(tx, reading, verdict))

    return end


def _without_word(real: Any) -> Any:
    return lambda entity, new, link, rule, word: real(entity, new, link, rule, None)


def _unless_approved(real: Any) -> Any:
    return lambda counts, population, approved, beside: None if approved else real(counts, population, None, beside)


def _and_all_again(real: Any) -> Any:
    def told(*given: Any) -> Any:
        report = real(*given)
        return replace(report, unknown_fields=dict.fromkeys(report.told_fields, 1) | report.unknown_fields)

    return told


def _whoever_leaves(real: Any) -> Any:
    return lambda opened, verdict, _: real(opened, verdict, ())


def _of_any_version(real: Any) -> Any:
    return lambda content, _: real(content, "")


def _cursor_first(real: Any) -> Any:
    end = landing.end

    def take(self: Any, page: Any, *, is_end: bool) -> None:
        if is_end:
            seen = self.progress.seen
            verdict = Conclusion("certified", None, {}, seen.is_full, seen.pages, 0, 0, page.cursor)
            with self._database.transaction(Login.LAND, self.reading.tenant) as tx:
                end(tx, self.reading, verdict)
        real(self, page, is_end=is_end)

    return take


def _whoever_asks(real: Any) -> Any:
    return lambda *given, **named: real(*given, **named) or True


_judged: list[Any] = []
"""What the guard said of the set that it was shown last."""


def _judged_before(real_lock: Any) -> Any:
    def lock(tx: Any, scope: Any) -> None:
        newest = [each.change for each in masters.open_changes(tx, scope) if each.is_newest]
        deletes = sum(change.kind == "delete" for change in newest)
        _judged[:] = [hold(Counts(deletes), masters.population(tx, scope))]
        real_lock(tx, scope)

    return lock


LANDING_MUTANTS: dict[str, LandingMutant] = {
    "certificate ignored": LandingMutant(
        "a list that lacks a page counts as all there is",
        "equal after a good reading",
        "a page is passed over",
        "is missing",
        ((Certificate, "is_certified", _true_of_all),),
    ),
    "absence believed": LandingMutant(
        "who is not on the list counts as deleted, and nobody is asked",
        "no delete from absence",
        "a short list agrees with itself",
        "the partner has it",
        ((FhirConnector, "fetch", _always(Gone())),),
    ),
    "every 404 believed": LandingMutant(
        "whatever a 404 tells of counts as a word on the record",
        "no delete but by the partner's word",
        "the answers for suspects tell of something else",
        "the partner has it",
        ((codes, "says_gone", _by_status),),
    ),
    "broken off and forgotten": LandingMutant(
        "what a reading saw before it broke off is forgotten, and yet it goes on there",
        "a reading taken up ends as one that did not break off",
        "broken off on its third page",
        "it goes on as",
        ((landing, "end", _and_forget),),
    ),
    "endless list read on": LandingMutant(
        "a list is read as long as it leads on",
        "a reading ends",
        "a list goes round without end",
        "pages were read",
        ((Seen, "is_endless", lambda _: property(lambda _: False)),),
    ),
    "guard outside the lock": LandingMutant(
        "the guard judges a set, and what came to it since is written too",
        "no mass change without a person",
        "more is deleted while an application waits",
        "at once",
        (
            (masters, "lock_application", _judged_before),
            (plan, "hold", lambda _: lambda *_, **__: _judged[0]),
        ),
    ),
    "instalments": LandingMutant(
        "the guard judges each application by itself",
        "no mass change without a person",
        "deletes come in two readings",
        "at once",
        ((masters, "beside", _without("lately")),),
    ),
    "suspects not counted": LandingMutant(
        "the guard counts what is proved, and not who is still to be proved",
        "no mass change without a person",
        "an emptied list is proved two at a time",
        "were made inactive",
        ((masters, "beside", _without("suspects")),),
    ),
    "suspicion not needed": LandingMutant(
        "what the partner said of a suspect counts though it was seen again meanwhile",
        "no delete of whom the partner shows",
        "a suspect is seen again before the word on it is stored",
        "the partner has it",
        ((suspicions, "lift", lambda _: lambda _tx, _reading, ids: frozenset(ids)),),
    ),
    "a yes counts again": LandingMutant(
        "an approval is not used up by the application that it let through",
        "no mass change without a person",
        "as many again are deleted after a yes",
        "were made inactive",
        ((approvals, "use", _always(None)),),
    ),
    "a yes without a ceiling": LandingMutant(
        "whoever approves something approves whatever comes",
        "no mass change without a person",
        "one more is deleted after a yes",
        "were made inactive",
        ((plan, "hold", _unless_approved),),
    ),
    "told again and again": LandingMutant(
        "an unknown field is told by every reading that meets it",
        "a field is told once",
        "a field comes that the format does not have",
        "is told again",
        ((land, "told_once", _and_all_again),),
    ),
    "id is the person": LandingMutant(
        "whoever comes under an id is taken for the one whom it meant",
        "nobody is written over",
        "an id is given to somebody new",
        "is somebody else",
        ((identity, "_is_another", _always(False)),),
    ),
    "swapped and retired": LandingMutant(
        "who loses an id is retired though another id means him by now",
        "nobody is retired whom the partner has",
        "an id is given to somebody new",
        "differs in active",
        ((plan, "_retires", _whoever_leaves),),
    ),
    "number kept": LandingMutant(
        "a master keeps the number under which it came",
        "equal after a good reading",
        "an id is given to somebody new",
        "differs in number",
        ((identities, "renumber", _always(None)),),
    ),
    "undone link stays": LandingMutant(
        "a link that a person has undone stays valid",
        "no record linked against a person's word",
        "a wrong link is undone",
        "it is linked",
        ((identities, "undo", _always(None)),),
    ),
    "undone link comes back": LandingMutant(
        "whose link was undone is taken for a new record, without a person",
        "no record linked against a person's word",
        "a wrong link is undone",
        "it is linked",
        ((plan, "judge", _without_word),),
    ),
    "cursor moved early": LandingMutant(
        "the cursor moves before the last page is stored",
        "equal after a good reading",
        "killed before each commit",
        "is missing",
        (
            (Pages, "take", _cursor_first),
            (landing, "go_on", _whoever_asks),
            (landing, "end", _whoever_asks),
        ),
    ),
    "cursor by the last page": LandingMutant(
        "the cursor goes by the latest time on any page, whenever the reading began",
        "equal after a good reading",
        "edited behind the reading",
        "differs in birth_date",
        ((Marks, "begin", _always(None)),),
    ),
    "hash without the mapping": LandingMutant(
        "a record that did not change is not mapped anew when the mapping does",
        "equal after a good reading",
        "the mapping changes",
        "is mapped as before",
        ((versions, "fingerprint", _of_any_version),),
    ),
}
"""By name."""
