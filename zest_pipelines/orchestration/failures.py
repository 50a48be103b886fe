"""Our errors in Dagster's terms: whose fault it is, whether a retry helps, and the sentence that names the
next step.

Dagster stores a step's error with its whole chain of causes and shows it to anyone who reaches the UI. So
whatever a station raises is rebuilt here from a code of the catalogue, with our own sentence or a class and a line
beside it; messages of foreign exceptions, which may quote a patient's row, never get through.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from dagster import Failure, MetadataValue

from partners.errors import PartnerError
from partners.reasons import UnknownReason, reason, sentences
from resources.logins import LoginsError
from resources.private_files import PrivateFileError
from resources.vault import VaultError
from zest_pipelines.core.reference import reference
from zest_pipelines.core.weeks import DaysError
from zest_pipelines.store.errors import (
    ConstraintError,
    DatabaseUnreachableError,
    NotOpenError,
    SchemaError,
    SettledError,
    StoreError,
    UnknownConnectionError,
    UnknownRecordError,
    UnknownTenantError,
)


class Reach(StrEnum):
    """Whom a fault stops."""

    TENANT = "tenant"
    """This tenant: the others go on, and a run that nobody asked for stays green."""
    RUN = "run"
    """Everyone: the run ends."""
    UNEXPECTED = "unexpected"
    """This tenant, as far as can be told: the others go on, and the run fails at its end: we are at fault."""


@dataclass(frozen=True)
class Fault:
    """Why something did not get done, fit to be shown."""

    reach: Reach
    code: str
    """A code of the catalogue of reasons."""
    description: str
    """What happened and what to do next."""
    is_permanent: bool
    """Whether trying again is useless before something changes."""


def fault_for(code: str, params: Mapping[str, str], *about: str) -> Fault:
    """A tenant's fault by its code in the catalogue; permanent if we do not try again by ourselves.

    `about`: whom it befell, for the reference: tenant and partner, as far as they are known.
    """
    return Fault(Reach.TENANT, code, " ".join(sentences(code, params, reference(*about))), not is_retried(code))


def is_retried(code: str) -> bool:
    """Whether we try again by ourselves, so that no person need act. False for an unknown code."""
    try:
        return reason(code).retried
    except UnknownReason:
        return False


def fault_of(error: Exception, *about: str) -> Fault:
    """What a raised error comes to. `about`: whom it befell, as for `fault_for`."""
    match error:
        case PartnerError():
            return fault_for(error.reason, error.params, *about)
        case DatabaseUnreachableError():
            return _worded(Reach.RUN, "database_unreachable", error, about)
        case SchemaError() | LoginsError() | PrivateFileError():
            return _worded(Reach.RUN, "installation_incomplete", error, about)
        case ConstraintError():
            return _worded(Reach.UNEXPECTED, "internal_error", error, about)
        case VaultError():
            return _worded(Reach.TENANT, "secret_unreadable", error, about)
        case UnknownTenantError() | UnknownConnectionError() | UnknownRecordError() | NotOpenError() | SettledError():
            return _worded(Reach.TENANT, "input_refused", error, about)
        case DaysError():
            return _worded(Reach.TENANT, "input_refused", error, about)
        case StoreError():
            return _worded(Reach.TENANT, "internal_error", error, about)
        case _:
            return _unexpected(error, about)


def faults_of(tenants: Iterable[str], act: Callable[[str], None]) -> list[tuple[str, Fault]]:
    """Act for each tenant. Returns who got none (id, fault): one tenant's fault keeps nobody else from it, but one that
    reaches the whole run ends it."""
    faults: list[tuple[str, Fault]] = []
    for tenant in tenants:
        try:
            act(tenant)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is that tenant's until it says otherwise
            faults.append((tenant, fault_of(error, tenant)))
            if faults[-1][1].reach is Reach.RUN:
                break
    return faults


def failure(faults: Sequence[tuple[str, Fault]]) -> Failure:
    """The run's failure from its tenants' faults (id, fault), at least one; final if retries help none."""
    description = " ".join(dict.fromkeys(f"{tenant}: {fault.description}" for tenant, fault in faults))
    listed = [{"tenant": tenant, "reason": fault.code} for tenant, fault in faults]
    return Failure(
        description,
        metadata={"faults": MetadataValue.json(listed)},
        allow_retries=not all(fault.is_permanent for _, fault in faults),
    )


def _worded(reach: Reach, code: str, error: Exception, about: Sequence[str]) -> Fault:
    """For errors whose message is a sentence of ours: it says to an operator what the catalogue leaves open."""
    sentence = str(error)
    return _told(reach, code, f"{sentence[:1].upper()}{sentence[1:]}.", about)


def _unexpected(error: Exception, about: Sequence[str]) -> Fault:
    what = f"{type(error).__name__}"
    frames = traceback.extract_tb(error.__traceback__)
    place = f" at {Path(frames[-1].filename).name}:{frames[-1].lineno}" if frames else ""
    return _told(Reach.UNEXPECTED, "internal_error", f"{what}{place}.", about or (f"{what}{place}",))


def _told(reach: Reach, code: str, beside: str, about: Sequence[str]) -> Fault:
    message, action = sentences(code, {}, reference(*about))
    return Fault(reach, code, f"{message} {beside} {action}", not is_retried(code))
