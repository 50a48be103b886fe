"""A partner on paper: declared like any other, and called by nobody. For tests of what Dagster is shown and told."""

from __future__ import annotations

from typing import Any

from partners.contract import Capability, Entity, Partner, Recovery


def _refuse(*_: object) -> Any:
    raise AssertionError("no partner is called here")


PAPER = Partner(
    name="paper",
    title="Paper",
    reads=(Entity.CLIENT,),
    writes={Entity.VISIT: "visits"},
    capability=Capability(Recovery.NONE, has_version_check=False, is_incremental=False),
    settings=(),
    secrets=(),
    limits=(),
    mapping_version="1",
    map=_refuse,
    open=_refuse,
)
