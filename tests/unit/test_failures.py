"""Our errors as Dagster's failures: who is stopped, whether a retry helps, and nothing that could name a person."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from partners.errors import AuthenticationError, Deferred, RetryableError
from partners.reasons import all_reasons
from resources.logins import LoginsError
from resources.private_files import PrivateFileError
from resources.vault import VaultError
from zest_pipelines.core.reference import reference
from zest_pipelines.orchestration.failures import Fault, Reach, failure, fault_for, fault_of
from zest_pipelines.store.errors import (
    ConstraintError,
    DatabaseUnreachableError,
    SchemaError,
    StoreError,
    UnknownConnectionError,
    UnknownTenantError,
)

A_DEADLINE = datetime(2026, 11, 24, tzinfo=UTC)


@pytest.mark.parametrize(
    ("error", "reach", "is_permanent"),
    [
        (DatabaseUnreachableError("the database does not answer"), Reach.RUN, False),
        (SchemaError("run `zest init`"), Reach.RUN, True),
        (LoginsError("run `zest init`"), Reach.RUN, True),
        (PrivateFileError("run `chmod 600`"), Reach.RUN, True),
        (UnknownTenantError("sakura"), Reach.TENANT, True),
        (UnknownConnectionError("sakura", "fhir"), Reach.TENANT, True),
        (VaultError("enter it again"), Reach.TENANT, True),
        (StoreError("the tenant is not set"), Reach.TENANT, True),
        (ConstraintError("23514", "state_is_known"), Reach.UNEXPECTED, True),
        (RetryableError("partner_unreachable"), Reach.TENANT, False),
        (Deferred(A_DEADLINE), Reach.TENANT, False),
        (AuthenticationError("credential_refused"), Reach.TENANT, True),
        (KeyError("family"), Reach.UNEXPECTED, True),
    ],
)
def test_an_error_stops_whom_it_concerns_and_is_retried_where_that_helps(
    error: Exception, reach: Reach, is_permanent: bool
) -> None:
    fault = fault_of(error)

    assert (fault.reach, fault.is_permanent) == (reach, is_permanent)
    assert fault.code in {each.code for each in all_reasons()}


def test_a_partners_error_is_explained_with_the_next_action() -> None:
    fault = fault_of(AuthenticationError("credential_refused"))

    assert fault.code == "credential_refused"
    assert "did not accept the credential" in fault.description
    assert '"Connection settings", "Credential"' in fault.description


def test_an_error_of_the_store_keeps_its_own_sentence_with_the_next_step() -> None:
    fault = fault_of(UnknownConnectionError("sakura", "fhir"))

    assert fault.code == "input_refused"
    assert "Tenant sakura is not connected to fhir: run `zest connect sakura fhir ...`." in fault.description


def test_what_is_ours_is_told_with_the_number_of_whom_it_befell() -> None:
    assert reference("sakura", "fhir") in fault_of(DatabaseUnreachableError("it is away"), "sakura", "fhir").description
    assert reference("KeyError") in fault_of(KeyError("family")).description


def test_an_unexpected_error_says_what_and_where_but_never_its_message() -> None:
    try:
        raise ValueError("family name 佐藤 is too long")
    except ValueError as error:
        fault = fault_of(error)

    assert "佐藤" not in fault.description
    assert "ValueError at test_failures.py:" in fault.description


def test_a_code_that_the_catalogue_lacks_is_shown_and_left_to_a_person() -> None:
    fault = fault_for("never_heard_of", {})

    assert "never_heard_of" in fault.description
    assert fault.is_permanent


def test_a_failure_names_each_tenant_and_reason_once() -> None:
    fault = Fault(Reach.TENANT, "credential_refused", "Refused. Enter it again.", is_permanent=True)

    made = failure([("sakura", fault), ("sakura", fault), ("ume", fault)])

    assert made.description == "sakura: Refused. Enter it again. ume: Refused. Enter it again."
    assert not made.allow_retries


def test_a_failure_may_be_retried_if_that_helps_one_of_its_faults() -> None:
    lasting = Fault(Reach.TENANT, "credential_refused", "Refused.", is_permanent=True)
    passing = Fault(Reach.TENANT, "partner_unreachable", "Away.", is_permanent=False)

    assert failure([("sakura", lasting), ("ume", passing)]).allow_retries
