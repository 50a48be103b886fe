"""From an exception to one sentence and an exit code.

Errors that we know say by themselves what to do next; a partner's and an unforeseen one are told in the catalogue's
sentences. Where those ask to tell support a number, the call stack goes to the data directory's log under it, without
the exception's own message: that may quote a person's data.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

from partners.errors import Deferred, PartnerError
from partners.limits import LimitError
from partners.reasons import sentences
from partners.registry import UnknownPartnerError
from partners.windows import NeverOpenError, WindowSyntaxError
from resources.logins import LoginsError
from resources.private_files import PrivateFileError
from resources.vault import VaultError
from zest_pipelines.cli.options import InputError, chosen_data_dir
from zest_pipelines.cli.runs import RunFailedError
from zest_pipelines.cli.words import local
from zest_pipelines.core.identifiers import TenantIdError
from zest_pipelines.core.moments import MomentError
from zest_pipelines.core.reference import reference
from zest_pipelines.local.dagster_home import DagsterHomeError
from zest_pipelines.local.data_dir import DataDirError
from zest_pipelines.local.embedded import EmbeddedServerError
from zest_pipelines.local.machine import MachineError
from zest_pipelines.local.ports import PortInUseError
from zest_pipelines.local.supervisor import StopRequestedError, SupervisorError
from zest_pipelines.store.errors import StoreError

FAILED = 2
INTERRUPTED = 130

_SPEAKING = (
    InputError,
    RunFailedError,
    TenantIdError,
    MomentError,
    UnknownPartnerError,
    LimitError,
    WindowSyntaxError,
    NeverOpenError,
    DataDirError,
    MachineError,
    DagsterHomeError,
    EmbeddedServerError,
    PortInUseError,
    SupervisorError,
    LoginsError,
    PrivateFileError,
    VaultError,
    StoreError,
)
"""Errors whose message is a sentence with the next step, and holds no data."""


def report(error: Exception) -> int:
    """Tell `error` on standard error; the exit code."""
    if isinstance(error, StopRequestedError):
        return INTERRUPTED
    sys.stderr.write(f"{sentence(error) or _explained('internal_error', {}, error)}\n")
    return FAILED


def sentence(error: Exception) -> str | None:
    """What to tell about an error that we know; None for one that we do not."""
    if isinstance(error, _SPEAKING):
        return _capital(str(error))
    if isinstance(error, Deferred):  # nobody but this command waits for the call
        when = local(error.until.isoformat())
        return (
            f"The limits leave no call before {when}: try again then. zest limits shows them; zest "
            "reopen opens what a partner has closed for a time that cannot be meant"
        )
    if isinstance(error, PartnerError):
        return _explained(error.reason, error.params, error)
    if isinstance(error, PermissionError | FileNotFoundError | NotADirectoryError) and error.filename:
        return f"{error.filename}: {os.strerror(error.errno or 0).lower()}; mend the path or its rights"
    return None


def _capital(text: str) -> str:
    """With a capital, unless it begins with a path or a name."""
    return text[0].upper() + text[1:] if text.split(" ", 1)[0].isalpha() else text


def _explained(code: str, params: Mapping[str, str], error: Exception) -> str:
    """The catalogue's sentences; where they ask to tell support a number, the log has the call stack under it."""
    now = datetime.now(UTC).isoformat()
    number = reference(now, type(error).__name__)
    told = " ".join(sentences(code, params, number))
    if number not in told:
        return told
    try:
        return f"{told} Its details are in {_write(now, number, error)}"
    except OSError:
        return f"{told} It was a {type(error).__name__}"


def _write(now: str, number: str, error: Exception) -> Path:
    log = chosen_data_dir().logs / "cli.log"
    descriptor = os.open(log, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "a", encoding="utf-8") as file:
        file.write(f"{now} {number}\n")
        file.writelines(_stacks(error))
    return log


def _stacks(error: BaseException) -> Iterator[str]:
    """The call stack of the error and of its causes, newest first, each with its kind."""
    current: BaseException | None = error
    while current is not None:
        yield f"{type(current).__module__}.{type(current).__qualname__}\n"
        yield from traceback.format_tb(current.__traceback__)
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
