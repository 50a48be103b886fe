"""Given its message alone, each reason of the tenant's people can be mended: somebody does what it says, and it is ok.

The scenes stand in fixes_*.py, by partner.
"""

from __future__ import annotations

from inspect import signature
from typing import Any

import fixes_dagster  # noqa: F401
import pytest
from fix_bench import PLACES, SCENES, Scene, new_person, places_named, services
from fixes_carecsv import office, sftp
from fixes_fhir import empty, tokens
from fixes_orca import orca
from fixes_smarthr import smarthr
from fixes_unsure import unasked

from partners.reasons import Language, Owner, all_reasons

__all__ = ["empty", "new_person", "office", "orca", "services", "sftp", "smarthr", "tokens", "unasked"]

USERS = [each for each in all_reasons() if each.owner is Owner.USER]


@pytest.mark.parametrize("scene", SCENES, ids=lambda each: each.name)
def test_it_turns_ok_by_what_its_message_says_and_nothing_else(scene: Scene, request: pytest.FixtureRequest) -> None:
    given = {name: request.getfixturevalue(name) for name in signature(scene.run).parameters}
    went = scene.run(**given).went
    assert tuple(went) == scene.places


def test_each_reason_of_the_tenants_has_a_scene_and_no_other() -> None:
    assert {each.code for each in USERS} - {each.code for each in SCENES} == set(), "add a scene to fixes_*.py"
    assert {each.code for each in SCENES} - {each.code for each in USERS} == set()


@pytest.mark.parametrize("told", USERS, ids=lambda each: each.code)
def test_the_scenes_of_a_reason_go_to_all_places_that_its_action_names_in_either_language(told: Any) -> None:
    walked = {place for each in SCENES if each.code == told.code for place in each.places}
    assert walked == set(places_named(told))
    assert {PLACES[each] for each in walked} == set(places_named(told, Language.JAPANESE))
