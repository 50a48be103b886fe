"""What can go wrong with a partner outside a write, grouped by what happens next.

    PartnerError
    ├── RetryableError       the partner's or the network's fault: the next tick tries again
    │   └── Deferred         no call was made: the limits allow the next one only later
    └── RejectedError        it stays so until a person changes something
        └── AuthenticationError   ... and that something is the credential or its permissions

A write never raises these: its outcome is a value (`contract.Reply`). Each error carries a code of the catalogue
(`reasons`) and its parameters, which hold no patient data and no secret.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime


class PartnerError(Exception):
    """A partner could not be read. `reason` is a code of the catalogue, `params` what its sentences mention."""

    def __init__(self, reason: str, params: Mapping[str, str] | None = None) -> None:
        super().__init__(reason)
        self.reason = reason
        self.params = dict(params or {})


class RetryableError(PartnerError):
    """Trying again later may succeed; not before `not_before` where the partner named a time."""

    def __init__(
        self, reason: str, params: Mapping[str, str] | None = None, not_before: datetime | None = None
    ) -> None:
        super().__init__(reason, params)
        self.not_before = not_before


class Deferred(RetryableError):  # noqa: N818  # no fault: the limits say "later"
    """The limits allow the next call at `until`; nothing was sent."""

    def __init__(self, until: datetime) -> None:
        super().__init__("budget_deferred", not_before=until)
        self.until = until


class RejectedError(PartnerError):
    """A person has to change something first; the reason says what."""


class AuthenticationError(RejectedError):
    """The credential, or what it permits, has to change first."""
