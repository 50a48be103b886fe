"""The partition key of every asset is a tenant's id: dynamic, one list of keys a partner.

The tenants are rows of ours, Dagster's keys a copy. Every tick brings the copy up to date before it asks for
runs. A key that a person adds in the UI for nobody is taken away again; a run for it ends in an error that
names the next step.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

from dagster import DagsterInstance, DynamicPartitionsDefinition

from partners.contract import Partner


def tenant_partitions(partner: Partner) -> DynamicPartitionsDefinition:
    """The tenants that are connected to the partner."""
    return DynamicPartitionsDefinition(name=f"{partner.name}_tenants")


def sync_tenants(instance: DagsterInstance, partner: Partner, connected: Collection[str]) -> Sequence[str]:
    """Make the partner's keys those of `connected`, and return them in Dagster's order."""
    name = f"{partner.name}_tenants"
    known = instance.get_dynamic_partitions(name)
    if missing := sorted(set(connected) - set(known)):
        instance.add_dynamic_partitions(name, missing)
    for left in sorted(set(known) - set(connected)):
        instance.delete_dynamic_partition(name, left)
    return [key for key in known if key in connected] + missing
