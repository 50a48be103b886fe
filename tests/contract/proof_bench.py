"""The partners for the proofs on the certification's bench: one for each class of capability."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

from partner import KINDS, PROOFS
from partner_process import RunningPartner

from partners.certification.bench import Bench
from partners.contract import Command, Entity, Verb, Visit

_STARTS = datetime(2026, 11, 24, 0, 30, tzinfo=UTC)
_PLANNED = Command(
    Entity.VISIT,
    Verb.CREATE,
    uuid4(),
    1,
    "k",
    Visit(_STARTS, _STARTS.replace(hour=2), "112345", "玄関は開いています"),
    {Entity.CLIENT: "c1", Entity.STAFF: "s1"},
)


def _said(row: dict[str, Any]) -> dict[str, object]:
    moments = {name: at and datetime.fromisoformat(at) for name, at in row["content"].items() if name.endswith("_at")}
    status = "cancelled" if row["is_cancelled"] else row["content"].get("status", "booked")
    return {**row["content"], **moments, "status": status}


class ProofBench(Bench):
    """It has no masters."""

    batch_settings = {"batch_size": "9"}  # noqa: RUF012  # nobody changes it

    def __init__(self, name: str, server: RunningPartner) -> None:
        self._server, self._place = server, (name.removeprefix("proof_"), "hidamari")
        self.partner, self.url = PROOFS[name], "/".join((server.url, *self._place))
        self.secret, self.settings = {}, {}

    def visit(self) -> Command:
        """As Bench."""
        return replace(_PLANNED, record_id=uuid4(), key=str(uuid4()))

    def refused_visit(self) -> Command:
        """As Bench."""
        command = self.visit()
        self._server.fail("reject", record_ids=[str(command.record_id)])
        return command

    def copies(self, command: Command) -> Sequence[dict[str, Any]]:
        """As Bench."""
        of = str(command.record_id), KINDS[command.entity]
        return [row for row in self._server.state() if (row["record_id"], row["kind"]) == of]

    def said(self, command: Command) -> Sequence[Mapping[str, object]]:
        """As Bench."""
        return [_said(row) for row in self.copies(command)]

    def edit_copy(self, command: Command) -> None:
        """As Bench."""
        self._server.edit(*self._place, command.record_id, note="theirs")

    def throttle(self) -> None:
        """As Bench."""
        self._server.fail("refuse", methods=("GET", "POST", "PUT"))

    def reject_batch(self, command: Command) -> None:
        """As Bench."""
        self._server.fail("reject_batch", record_ids=[str(command.record_id)])

    def heal(self) -> None:
        """As Bench."""
        self._server.heal()
