"""A scene in the launchpad of Dagster: of `test_fixes`."""

from __future__ import annotations

from typing import Any

from conftest import TOKEN
from dagster import DagsterInstance, ExecuteInProcessResult
from fix_bench import TENANT, Person, fixes
from fixes_fhir import SYSTEMS

from partners.fhir.partner import FHIR
from partners.fhir.sandbox.testing import RunningSandbox
from partners.reasons import Language, sentences
from zest_pipelines.core.reference import reference
from zest_pipelines.definitions import definitions


def launched(instance: DagsterInstance, tenant: str) -> ExecuteInProcessResult:
    """The job that resumes a tenant's connection, with that in its form."""
    config: dict[str, Any] = {"ops": {"fhir_let_calls_go_on": {"config": {"tenant": tenant}}}}
    job = definitions.resolve_job_def("fhir_resume")
    return job.execute_in_process(instance=instance, run_config=config, raise_on_error=False)


@fixes("input_refused", "Form")
def the_tenants_id_is_corrected(new_person: Any, sandbox: RunningSandbox) -> Person:
    person: Person = new_person(FHIR, sandbox.url, {"token": TOKEN}, **SYSTEMS)
    person.connects()
    person.types("pause", TENANT, "fhir", "--reason", "a test")
    with DagsterInstance.ephemeral() as instance:
        mistyped = launched(instance, "sakurra")
        (failed,) = [each for each in mistyped.all_node_events if each.is_step_failure]
        told = {each: sentences("input_refused", {}, reference("sakurra", "fhir"), each) for each in Language}
        said = getattr(failed.step_failure_data.user_failure_data, "description", "")
        assert all(each in said for each in told[Language.ENGLISH])
        assert "no tenant sakurra" in said  # the explanation
        person.hears("input_refused", told)
        person.goes("Form")
        assert launched(instance, TENANT).success
    person.minute()
    person.sees_ok()
    return person
