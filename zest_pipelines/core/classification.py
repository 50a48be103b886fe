"""Which reason an unknown error is, by an operator's word. Pure.

History keeps the error as it was answered; whoever decides or tells asks here (or `sync.told`) what it is by now.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from partners.reasons import Owner, Reason, ReasonScope, UnknownReason, all_reasons, reason
from zest_pipelines.core.alarm import detail_of, fingerprint_of

UNKNOWN = "unknown"
"""The one reason that explains nothing: the others cannot be classified, so nobody hides a known fault."""


def goes_on(why: Reason) -> bool:
    """Whether a record that was answered so is sent again by itself: what is wrong with the whole connection is not its
    fault, and the breaker says when."""
    return why.retried or why.scope is ReasonScope.CONNECTION


def going_on() -> tuple[str, ...]:
    """The codes of which that is so."""
    return tuple(each.code for each in all_reasons() if goes_on(each))


@dataclass(frozen=True)
class Classification:
    """What operators have said of one partner's unknown errors."""

    partner: str = ""
    codes: Mapping[str, str] = field(default_factory=dict)
    """By fingerprint, the code of the reason that it is."""

    def given(self, code: str, params: Mapping[str, str]) -> Reason | None:
        """The reason that an answer of unknown cause was given; None: it has none, or its cause is known."""
        if code != UNKNOWN or not self.codes:
            return None
        said = self.codes.get(fingerprint_of(self.partner, code, detail_of(params)))
        try:
            return None if said is None else reason(said)
        except UnknownReason:  # said under another version of the catalogue
            return None

    def told(self, code: str, params: Mapping[str, str]) -> Reason:
        """The reason as it is by now."""
        return self.given(code, params) or reason(code)


def objection(code: Reason, params: Mapping[str, str], meant: frozenset[str], partner: str) -> str | None:
    """Why an error with such parameters cannot be that reason; None: it can.

    `meant`: the codes that an answer of the partner can mean.
    """
    if code.owner is Owner.UNKNOWN:
        return f"{code.code} explains nothing: choose what it is"
    if code.code not in meant:
        return f"{code.code} is nothing that an answer of {partner} can mean: it is another protocol's, or our own"
    missing = ", ".join(sorted(code.parameters() - params.keys()))
    if missing:
        return f"The sentences of {code.code} mention {missing}, which this error does not tell"
    return None
