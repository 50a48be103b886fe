"""The rows of the certification, tried with each connector against a real server: those of the registry and those for
the proofs, one for each class of capability. What a declaration says of its partner is tested, not believed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import asdict
from functools import cached_property

import httpx
import pytest
from partner import PROOFS
from partner_process import RunningPartner, running_partner
from proof_bench import ProofBench

from partners.certification.bench import Bench, benches_of
from partners.certification.certificate import ROWS, Result, Row, Verdict, certificate, run_row
from partners.certification.trial import Bounds, Trial
from partners.contract import Partner
from partners.registry import PARTNERS
from resources.http import Http

_ALL = {
    **{f"{name} {kind}".strip(): partner for name, partner in PARTNERS.items() for kind in benches_of(name)},
    **PROOFS,
}
"""By name and, for a partner that is tried at several, kind of address: `carecsv`, `carecsv sftp`."""
_ONE_OF_ALIKE = ("hostile to writes", "memory")
"""The proofs' partners share a connector: these say of one what they say of all."""


def http_client(bounds: Bounds) -> httpx.Client:
    """A client as the platform makes it."""
    return Http(**asdict(bounds)).client()


def concerns(row: Row, partner: Partner) -> bool:
    """Whether the row is tried with the partner here."""
    if partner.name in PROOFS and row.name in _ONE_OF_ALIKE:
        return partner.name == "proof_search"
    is_checked = row.name != "check" or partner.name in PARTNERS  # nothing can be asked of a proof's without a record
    return row.why_not(partner) is None and is_checked


class Trials:
    """A trial of each partner, begun when it is first wanted, and what has come of it."""

    def __init__(self, stack: ExitStack) -> None:
        self._stack, self._trials = stack, dict[str, Trial]()
        self.results: dict[str, list[Result]] = {}

    @cached_property
    def _proof_server(self) -> RunningPartner:
        return self._stack.enter_context(running_partner())

    def of(self, name: str) -> Trial:
        """The partner's."""
        if name not in self._trials:
            if name in PROOFS:
                bench: Bench = ProofBench(name, self._proof_server)
            else:
                partner, _, kind = name.partition(" ")
                bench = self._stack.enter_context(benches_of(partner)[kind]())
            self._trials[name] = Trial(bench, http_client)
        return self._trials[name]


@pytest.fixture(scope="module")
def trials() -> Iterator[Trials]:
    with ExitStack() as stack:
        yield Trials(stack)


@pytest.mark.parametrize(
    ("name", "row"),
    [pytest.param(name, row, id=f"{name}: {row.name}") for name in _ALL for row in ROWS if concerns(row, _ALL[name])],
)
def test_the_connector_does_what_the_row_says(trials: Trials, name: str, row: Row) -> None:
    result = run_row(row, trials.of(name))
    trials.results.setdefault(name, []).append(result)
    assert result.verdict is not Verdict.FAILS, f"{result.claim} {result.detail}"


@pytest.mark.parametrize("name", _ALL)
def test_each_class_that_is_declared_was_earned(trials: Trials, name: str) -> None:
    results = tuple(trials.results.get(name, ()))
    if len(results) < sum(concerns(row, _ALL[name]) for row in ROWS):
        pytest.skip("the rows were not all tried before")
    classes = certificate(trials.of(name).bench, results).classes
    unearned = [f"{each.name} {each.declared}: {each.detail}" for each in classes if not each.is_earned]
    assert unearned == [], "the declaration says what the rows do not show"
