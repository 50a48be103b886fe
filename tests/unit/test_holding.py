"""When the answers of a push stop it: call by call, whatever a call carries."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any, cast

import pytest

from zest_pipelines.flows.holding import FAULTS, SILENCES, Holding
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.tally import Tally
from zest_pipelines.flows.verdicts import Verdict
from zest_pipelines.store.keys import Target

NOW = datetime(2026, 11, 25, tzinfo=UTC)
ANSWER = Verdict(is_answer=True)
SILENCE = Verdict(is_silence=True, is_fault=True)
FAULT = Verdict(is_fault=True)
OUT_OF_SERVICE = Verdict(stop="partner_maintenance_unsure", is_failure=True, is_fault=True)
REFUSED = Verdict(stop="credential_refused", is_failure=True)
LATER = Verdict(stop="budget_deferred")


def stopped(*calls: tuple[Verdict, ...]) -> str | None:
    """Why the push stops after these calls, each with what it means for its records."""
    services: Any = SimpleNamespace(now=lambda: NOW, random=lambda: 0.5)
    tally = Tally()
    holding = Holding(cast(Services, services), Target("sakura", "fhir"), NOW, tally)
    for verdicts in calls:
        holding.heed(verdicts)
    return tally.stopped


@pytest.mark.parametrize(
    ("calls", "why"),
    [
        ([(FAULT,)] * (FAULTS - 1), None),
        ([(FAULT,)] * FAULTS, "partner_maintenance"),
        ([(FAULT,)] * (FAULTS - 1) + [(ANSWER,), (FAULT,)], None),
        ([(FAULT,) * 20], None),
        ([(FAULT, ANSWER)] * FAULTS, None),
        ([(ANSWER,), (SILENCE,), (SILENCE,), (FAULT,), (FAULT,), (FAULT,)], "partner_maintenance"),
        ([(SILENCE,)], "partner_unreachable"),
        ([(ANSWER,)] + [(SILENCE,)] * (SILENCES - 1), None),
        ([(ANSWER,)] + [(SILENCE,)] * SILENCES, "partner_unreachable"),
        ([(ANSWER,), (SILENCE,) * 20], None),
        ([(OUT_OF_SERVICE,) * 20], "partner_maintenance_unsure"),
        ([(OUT_OF_SERVICE, ANSWER)], None),
        ([(REFUSED, ANSWER)], "credential_refused"),
        ([(LATER,)], "budget_deferred"),
        ([(LATER,), (REFUSED,)], "credential_refused"),
        ([(REFUSED,), (LATER,)], "credential_refused"),
    ],
)
def test_what_stops_a_push_is_counted_by_calls(calls: list[tuple[Verdict, ...]], why: str | None) -> None:
    assert stopped(*calls) == why
