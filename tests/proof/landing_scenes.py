"""Scenes that bring the way in into danger, each judged by what the partner's sandbox has.

A scene is played on a stage and returns what is broken, in words: nothing, unless a mutant is at work. Readings of
changes do not overlap here, so that nothing but the cursor decides what the next one brings.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from itertools import count
from signal import SIGKILL, SIGSTOP
from typing import Any
from unittest.mock import patch

from conftest import NewTenant, Tenant
from land_process import BEFORE_LOCK, Told, after_commit, before_commit
from landing_mutants import at_work
from masters_truth import Faces, differences, false_deletes, say_who_waits
from partner_people import People, meanwhile
from pushers import Pusher, Pushers

from partners.contract import Client, Entity, Json, Master, Unmappable
from partners.fhir import reading
from partners.fhir.sandbox.faults import FaultKind, FaultRule
from partners.fhir.sandbox.testing import RunningSandbox
from resources.logins import Login
from zest_pipelines.flows import absence, settle
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import ApplyReport, LandReport

CLIENT = Entity.CLIENT
_names = count(1)


@dataclass(frozen=True)
class Stage:
    """A sandbox of three pages of clients and a tenant there, on whose masters a mutant may be at work."""

    tenant: Tenant
    landers: Pushers
    anew: Callable[[], Tenant]
    """Makes another tenant at the same sandbox."""
    mutant: str | None = None

    @property
    def sandbox(self) -> RunningSandbox:
        """The partner."""
        return self.tenant.sandbox

    def working(self, **how: Any) -> AbstractContextManager[Pusher]:
        """A process that lands, or what else it is told; `how` as Told's fields."""
        logins = self.tenant.services.database._logins
        return self.landers.pushing(Told.of(logins, self.tenant.name, mutant=self.mutant, overlap=0.0, **how))

    def land(self) -> LandReport:
        """Read, in this process."""
        with self._broken():
            return land(self.tenant.services, self.tenant.partner, self.tenant.name, CLIENT)

    def diff(self) -> None:
        """Compare."""
        diff(self.tenant.services, self.tenant.partner, self.tenant.name, CLIENT)

    def take_in(self) -> tuple[LandReport, ApplyReport]:
        """Land, diff and apply, in this process."""
        landed = self.land()
        self.diff()
        with self._broken():
            return landed, apply(self.tenant.services, self.tenant.partner, self.tenant.name, CLIENT)

    def later(self, days: int) -> Stage:
        """The same some days later, when a reading of everything is due."""
        services = replace(self.tenant.services, now=lambda: datetime.now(UTC) + timedelta(days=days))
        return replace(self, tenant=replace(self.tenant, services=services))

    def landed(self) -> list[tuple[str, bytes]]:
        """Every version that landed: id and fingerprint."""
        statement = "SELECT partner_id, fingerprint FROM sync.landed_version WHERE entity = 'client' ORDER BY 1, 2"
        return [(row.partner_id, row.fingerprint) for row in self.tenant.sql(statement, Login.OPERATOR)]

    def active(self) -> int:
        """How many clients are in force."""
        return int(self.tenant.sql("SELECT count(*) FROM schedule.client WHERE active")[0][0])

    def broken(self) -> list[str]:
        """Who of the clients is not as the partner has it, or was deleted though it has him."""
        clients = replace(self.tenant, partner=replace(self.tenant.partner, reads=(CLIENT,)))
        return differences(clients) + false_deletes(clients)

    @contextmanager
    def _broken(self) -> Iterator[None]:
        with patch.object(reading, "OVERLAP", timedelta(0)), at_work(self.mutant):
            yield


# --- Lists ----------------------------------------------------------------------------------------------------------


def a_page_is_passed_over(stage: Stage) -> list[str]:
    """A list lacks a page; the next one is whole."""
    stage.sandbox.set_faults(FaultRule(FaultKind.SKIPPED_PAGE, type="Patient", page=1))
    stage.take_in()
    stage.sandbox.clear_faults()
    stage.take_in()
    return stage.broken()


def a_short_list_agrees_with_itself(stage: Stage) -> list[str]:
    """A list ends with its first page, and its total says so too."""
    stage.take_in()
    stage.sandbox.set_faults(FaultRule(FaultKind.SHORT_LIST, type="Patient", page=1))
    stage.later(2).take_in()
    return stage.broken()


def the_answers_for_suspects_tell_of_something_else(stage: Stage) -> list[str]:
    """The same, and whoever asks for one who is not on it gets a 404 that tells of a missing right."""
    stage.take_in()
    ids = [each["id"] for each in stage.sandbox.state("Patient")]
    denied = (FaultRule(FaultKind.STATUS, id=each, status=404, code="security") for each in ids)
    stage.sandbox.set_faults(FaultRule(FaultKind.SHORT_LIST, type="Patient", page=1), *denied)
    stage.later(2).take_in()
    return stage.broken()


def broken_off_on_its_third_page(stage: Stage) -> list[str]:
    """The partner fails on the last page; the next reading asks for that page alone, and knows of the others."""
    stage.sandbox.set_faults(FaultRule(FaultKind.STATUS, type="Patient", page=3, times=1))
    broken_off, _ = stage.take_in()
    again, _ = stage.take_in()
    states = (broken_off.state, again.state, again.pages, again.records)
    wrong = [] if states == ("failed", "certified", 3, 30) else [f"it goes on as {states}"]
    return wrong + stage.broken()


def a_list_goes_round_without_end(stage: Stage) -> list[str]:
    """The first page leads to itself, hundreds of times; the next list is as it should be."""
    stage.sandbox.set_faults(FaultRule(FaultKind.REPEATED_PAGE, type="Patient", page=1, times=200))
    landed, _ = stage.take_in()
    stage.sandbox.clear_faults()
    stage.take_in()
    return stage.broken() + ([] if landed.pages < 200 else [f"{landed.pages} pages were read"])


def edited_behind_the_reading(stage: Stage) -> list[str]:
    """A client of the first page is edited when that page was read, and then one of the last, which is not read yet."""
    ids = sorted(each["id"] for each in stage.sandbox.state("Patient"))
    people = {each["id"]: each for each in stage.sandbox.state("Patient")}

    def edit(number: int) -> None:
        if number < 3:
            stage.sandbox.put(people[ids[0 if number == 1 else -1]] | {"birthDate": "1950-01-01"})

    watched = replace(stage, tenant=meanwhile(stage.tenant, edit))
    watched.take_in()
    stage.take_in()
    return stage.broken()


def a_suspect_is_seen_again_before_the_word_on_it_is_stored(stage: Stage) -> list[str]:
    """A list is short, and the partner says of each who is not on it that it has none. Before the first such word is
    stored, another reading shows everybody."""
    stage.take_in()
    ids = [each["id"] for each in stage.sandbox.state("Patient")]
    said = (FaultRule(FaultKind.STATUS, id=each, status=404, code="not-found") for each in ids)
    stage.sandbox.set_faults(FaultRule(FaultKind.SHORT_LIST, type="Patient", page=1), *said)

    def show_everybody(_: int) -> None:
        if stage.sandbox.faults():
            stage.sandbox.clear_faults()
            stage.later(4).land()

    replace(stage.later(2), tenant=meanwhile(stage.later(2).tenant, after_fetch=show_everybody)).land()
    return stage.broken()


def a_field_comes_that_the_format_does_not_have(stage: Stage) -> list[str]:
    """Two clients have it, one of them in one reading and the other in the next."""
    told = []
    for each in stage.sandbox.state("Patient")[:2]:
        stage.sandbox.put(each | {"nickname": "of the scene"})
        told.append(dict(stage.take_in()[0].unknown_fields))
    first, then = told
    return ([] if first else ["it is not told"]) + ([f"{', '.join(then)} is told again"] if then else [])


# --- Who is who -----------------------------------------------------------------------------------------------------


def an_id_is_given_to_somebody_new(stage: Stage) -> list[str]:
    """And two are swapped, and one gets another number. Nobody is written over; they wait until a person has said who
    they are, and then all is equal."""
    stage.take_in()
    faces, people = Faces(), People(stage.sandbox, random.Random(7))
    wrong = faces.written_over(stage.tenant)
    for act in (people.reuse, people.swap, people.renumber):
        act()
    stage.take_in()
    wrong += faces.written_over(stage.tenant)
    say_who_waits(stage.tenant)
    stage.take_in()
    return wrong + faces.written_over(stage.tenant) + stage.broken()


def a_wrong_link_is_undone(stage: Stage) -> list[str]:
    """A person says that one is not whom it is linked to; it is read again, and until a person has spoken it waits."""
    stage.take_in()
    before = stage.active()
    wrong = min(each["id"] for each in stage.sandbox.state("Patient"))
    settle.unlink(stage.tenant.services, stage.tenant.partner, stage.tenant.name, wrong, "of the scene", CLIENT)
    waiting = [stage.take_in()[1].waiting, stage.later(2).take_in()[1].waiting]
    statement = "SELECT FROM sync.identity WHERE partner_id = :wrong AND entity = 'client' AND valid_to IS NULL"
    linked = stage.tenant.sql(statement, Login.OPERATOR, wrong=wrong)
    said = [] if waiting == [1, 1] else [f"{waiting} wait"]
    return said + (["it is linked"] if linked else []) + ([] if stage.active() == before else ["others are in force"])


# --- Crashes --------------------------------------------------------------------------------------------------------


def killed_before_each_commit(stage: Stage) -> list[str]:
    """Each commit in turn is the one that a reading does not live to see; the next reading takes over."""
    return _killed(stage, before_commit)


def killed_after_each_commit(stage: Stage) -> list[str]:
    """Each commit in turn is the last thing that a reading does; the next reading takes over."""
    return _killed(stage, after_commit)


def _killed(stage: Stage, point: Callable[[int], str], meantime: Callable[[], None] | None = None) -> list[str]:
    with stage.working() as whole:
        assert whole.wait_for_end() == 0
        commits, state = whole.report["commits"], whole.report["state"]
    assert state == "certified" or stage.mutant, state
    wrong = []
    for number in range(1, commits + 1):
        once_more = replace(stage, tenant=stage.anew())
        with once_more.working(point=point(number)) as lander:
            assert lander.wait_for_end() == -SIGKILL
        if meantime is not None:
            meantime()
        wrong += [
            f"{point(number)}: {each}" for each in _taken_over(once_more, stage, has_changed=meantime is not None)
        ]
    return wrong


def _taken_over(stage: Stage, clean: Stage, *, has_changed: bool) -> list[str]:
    """What is otherwise than after one clean reading, when another one has taken over and a reading of changes came."""
    age_readings(stage.tenant)
    stage.take_in()
    again, _ = stage.take_in()
    wrong = stage.broken()
    if not has_changed:
        wrong += [] if stage.landed() == clean.landed() else ["other versions landed"]
        wrong += [f"the next reading brought {again.new_versions}"] if again.new_versions or again.is_full else []
    statement = "SELECT count(*) FROM sync.snapshot WHERE state = 'reading'"
    wrong += ["a reading was left behind"] if stage.tenant.sql(statement, Login.OPERATOR)[0][0] else []
    return wrong


def age_readings(tenant: Tenant) -> None:
    """What five minutes do to a reading that stands still."""
    tenant.sql("UPDATE sync.snapshot SET touched_at = clock_timestamp() - interval '6 minutes'", Login.LAND)


def edited_while_dead(stage: Stage) -> list[str]:
    """The same, and before the next reading takes over the partner's people go on."""
    people = People(stage.sandbox, random.Random(7))

    def go_on() -> None:
        for act in (people.change, people.add, people.delete, people.change):
            act()

    return [each for each in _killed(stage, after_commit, go_on) if "still in force" not in each]


# --- Applications ---------------------------------------------------------------------------------------------------


def more_is_deleted_while_an_application_waits(stage: Stage) -> list[str]:
    """Five deletes are to be applied. While the process has not got its turn yet, eight more come: too many at once."""
    stage.take_in()
    before, people = stage.active(), People(stage.sandbox, random.Random(7))
    _delete(stage.later(2), people, 5)
    with stage.working(station="apply", point=BEFORE_LOCK, signal=SIGSTOP) as application:
        application.wait_for_stop()
        _delete(stage.later(4), people, 8)
        application.go_on()
        assert application.wait_for_end() == 0
    lost = before - stage.active()
    return [f"{lost} were made inactive at once"] if lost else []


def deletes_come_in_two_readings(stage: Stage) -> list[str]:
    """Eight deletes come with one reading and eight with the next: too many within a day."""
    stage.take_in()
    before, people = stage.active(), People(stage.sandbox, random.Random(7))
    for days in (2, 4):
        for _ in range(8):
            people.delete_in_force()
        stage.later(days).take_in()
    lost = before - stage.active()
    return [f"{lost} were made inactive, as if at once"] if lost > 8 else []


def an_emptied_list_is_proved_two_at_a_time(stage: Stage) -> list[str]:
    """The list is empty and the point reads say so too: too many at once, however slowly it is proved."""
    stage.take_in()
    before, ids = stage.active(), [each["id"] for each in stage.sandbox.state("Patient")]
    said = (FaultRule(FaultKind.STATUS, id=each, status=404, code="not-found") for each in ids)
    stage.sandbox.set_faults(FaultRule(FaultKind.EMPTY_LIST, type="Patient"), *said)
    with patch.object(absence, "MOST_POINT_READS", 2):
        for days in (2, 4):
            stage.later(days).take_in()
    lost = before - stage.active()
    return [f"{lost} were made inactive"] if lost else []


def as_many_again_are_deleted_after_a_yes(stage: Stage) -> list[str]:
    """Eleven deletes are approved and go; eleven more do not."""
    return _more_after_a_yes(stage, 11, between=stage.take_in)


def one_more_is_deleted_after_a_yes(stage: Stage) -> list[str]:
    """Eleven deletes are approved; when they are to be applied, they are twelve."""
    return _more_after_a_yes(stage, 1, between=lambda: None)


def _more_after_a_yes(stage: Stage, more: int, between: Callable[[], object]) -> list[str]:
    stage.take_in()
    people, at = People(stage.sandbox, random.Random(7)), (stage.tenant.services, stage.tenant.partner)
    _delete(stage.later(2), people, 11)
    settle.approve(*at, stage.tenant.name, settle.mass_changes(*at, stage.tenant.name))
    between()
    before = stage.active()
    _delete(stage.later(4), people, more)
    stage.take_in()
    lost = before - stage.active()
    return [f"{lost} were made inactive"] if lost else []


def _delete(stage: Stage, people: People, clients: int) -> None:
    for _ in range(clients):
        people.delete_in_force()
    stage.land()
    stage.diff()


# --- The mapping ----------------------------------------------------------------------------------------------------


def the_mapping_changes(stage: Stage) -> list[str]:
    """Another version of the mapping reads the telephone number of three clients otherwise."""
    stage.take_in()
    few = sorted(each["id"] for each in stage.sandbox.state("Patient"))[:3]
    real = stage.tenant.partner

    def read_otherwise(entity: Entity, content: Json, settings: Mapping[str, str]) -> Master | Unmappable:
        master = real.map(entity, content, settings)
        assert isinstance(master, Client)
        return replace(master, phone="00-0000-0000") if content["id"] in few else master

    renewed = replace(real, map=read_otherwise, mapping_version="of the scene")
    renewed_stage = replace(stage.later(2), tenant=replace(stage.later(2).tenant, partner=renewed))
    renewed_stage.take_in()
    as_meant, found = {f"{each} differs in phone" for each in few}, set(renewed_stage.broken())
    before = [each.replace("differs in phone", "is mapped as before") for each in sorted(as_meant - found)]
    return before + sorted(found - as_meant)


SCENES: Mapping[str, Callable[[Stage], list[str]]] = {
    "a page is passed over": a_page_is_passed_over,
    "a short list agrees with itself": a_short_list_agrees_with_itself,
    "the answers for suspects tell of something else": the_answers_for_suspects_tell_of_something_else,
    "broken off on its third page": broken_off_on_its_third_page,
    "a list goes round without end": a_list_goes_round_without_end,
    "edited behind the reading": edited_behind_the_reading,
    "a suspect is seen again before the word on it is stored": a_suspect_is_seen_again_before_the_word_on_it_is_stored,
    "a field comes that the format does not have": a_field_comes_that_the_format_does_not_have,
    "an id is given to somebody new": an_id_is_given_to_somebody_new,
    "a wrong link is undone": a_wrong_link_is_undone,
    "killed before each commit": killed_before_each_commit,
    "killed after each commit": killed_after_each_commit,
    "more is deleted while an application waits": more_is_deleted_while_an_application_waits,
    "deletes come in two readings": deletes_come_in_two_readings,
    "as many again are deleted after a yes": as_many_again_are_deleted_after_a_yes,
    "one more is deleted after a yes": one_more_is_deleted_after_a_yes,
    "an emptied list is proved two at a time": an_emptied_list_is_proved_two_at_a_time,
    "the mapping changes": the_mapping_changes,
}


def new_stage(sandbox: RunningSandbox, landers: Pushers, new_tenant: NewTenant, mutant: str | None = None) -> Stage:
    """A stage with a new tenant at the sandbox."""

    def anew() -> Tenant:
        return new_tenant(sandbox, f"way-in-{next(_names)}")

    return Stage(anew(), landers, anew, mutant)
