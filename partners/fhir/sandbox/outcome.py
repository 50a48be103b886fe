"""OperationOutcome, the one form in which a FHIR server says no.

Diagnostics name elements, codes and ids. They never repeat a name, an address or any other content of a record.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

Json = dict[str, Any]


@dataclass(frozen=True)
class Issue:
    """One reason of a refusal: a code of FHIR's IssueType, a sentence, and the element it is about."""

    code: str
    diagnostics: str
    expression: str | None = None

    def as_json(self) -> Json:
        """The issue as an element of OperationOutcome.issue."""
        issue: Json = {"severity": "error", "code": self.code, "diagnostics": self.diagnostics}
        return issue if self.expression is None else issue | {"expression": [self.expression]}


def operation_outcome(issues: Sequence[Issue]) -> Json:
    """An OperationOutcome of at least one issue."""
    return {"resourceType": "OperationOutcome", "issue": [issue.as_json() for issue in issues]}


class Refusal(Exception):  # noqa: N818  # the protocol's own word, and no fault of the program
    """An interaction ends here with `status`, an OperationOutcome and extra headers; nothing was changed."""

    def __init__(self, status: int, *issues: Issue, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(status)
        self.status = status
        self.issues = issues
        self.headers = headers


def refuse(status: int, code: str, diagnostics: str, expression: str | None = None) -> Refusal:
    """A Refusal with a single issue, to be raised."""
    return Refusal(status, Issue(code, diagnostics, expression))
