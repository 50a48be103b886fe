"""An id that means somebody else, and a second partner of one tenant: nobody is written over or linked by chance."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from conftest import TOKEN, Tenant
from evidence import is_told
from flow_bench import calls, mark, push_now
from test_diff_apply import CLIENT, carry_over, compare, tomorrow

from partners.contract import Connection, Entity
from partners.fhir.sandbox.config import SandboxConfig
from partners.fhir.sandbox.testing import RunningSandbox, running_sandbox
from resources.logins import Login
from zest_pipelines.core.identity import Act
from zest_pipelines.flows import settle
from zest_pipelines.flows.land import land
from zest_pipelines.flows.reports import ApplyReport
from zest_pipelines.store import due, history, identities, tenants
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.masters import Scope

KEYS = ("birth_date", "family_kana", "given_kana")
REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"


def people(count: int) -> list[dict[str, Any]]:
    """So many people without irregularities, as the partner's records."""
    return [
        {"gender": "female", "birthDate": f"1940-01-{day:02}", "name": [_name("IDE", "佐藤"), _name("SYL", "サトウ")]}
        for day in range(1, count + 1)
    ]


def _name(script: str, family: str) -> dict[str, Any]:
    extension = [{"url": REPRESENTATION, "valueCode": script}]
    return {
        "use": "official",
        "family": family,
        "given": ["花子" if script == "IDE" else "ハナコ"],
        "extension": extension,
    }


ANOTHER = {"birthDate": "1961-07-08", "name": [_name("IDE", "田中"), _name("SYL", "タナカ")]}


def bring_in(tenant: Tenant, entity: Entity = CLIENT) -> ApplyReport:
    assert land(tenant.services, tenant.partner, tenant.name, entity).is_certified
    compare(tenant)
    return carry_over(tenant)


def links(tenant: Tenant) -> dict[str, UUID]:
    """Whom the partner's ids mean now."""
    rows = tenant.sql(
        "SELECT partner_id, record_id FROM sync.identity WHERE partner = :p AND entity = 'client' AND valid_to IS NULL",
        Login.OPERATOR,
        p=tenant.partner.name,
    )
    return {row.partner_id: row.record_id for row in rows}


def clients(tenant: Tenant) -> dict[UUID, Any]:
    return {row.client_id: row for row in tenant.sql("SELECT * FROM schedule.client")}


def waiting(tenant: Tenant) -> list[tuple[int, str, Mapping[str, str]]]:
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        found = identities.waiting(tx, tenant.name, tenant.partner.name)
    return [(each.landed_no, each.reason, each.params) for each in found]


def say(tenant: Tenant, act: Act, record: UUID | None = None, number: int | None = None) -> None:
    """A word on the only one that waits, or on that one."""
    settle.identity(tenant.services, tenant.partner, tenant.name, number or waiting(tenant)[0][0], act, record)


def due_tenants(tenant: Tenant) -> Sequence[str]:
    with tenant.services.database.transaction(Login.SCHEDULE, None) as tx:
        return due.open_master_changes(tx, tenant.partner.name)


@pytest.fixture
def sandbox() -> Iterator[RunningSandbox]:
    """The first partner's system, with few people."""
    with running_sandbox(SandboxConfig(token=TOKEN, clients=2, staff=1)) as running:
        yield running


@pytest.fixture
def other() -> Iterator[RunningSandbox]:
    """Another partner's system, in which nobody is yet."""
    with running_sandbox(SandboxConfig(token=TOKEN, clients=0, staff=0)) as running:
        yield running


def second(
    tenant: Tenant,
    sandbox: RunningSandbox,
    creates: Collection[Entity] | None = None,
    keys: Sequence[str] | None = None,
) -> Tenant:
    """The tenant at another partner as well."""
    partner = replace(tenant.partner, name="other")
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        settings = tenants.connection(tx, tenant.name, tenant.partner.name).connection.settings
        tenants.connect(
            tx,
            Connection(tenant.name, partner.name, sandbox.url, settings),
            timing="minute",
            limits=("tenant:60000/60s",),
            land_every=timedelta(hours=1),
            ciphertext=tenant.services.vault.encrypt({"token": TOKEN}, tenant=tenant.name, partner=partner.name),
            creates=creates,
            match_on=None if keys is None else {CLIENT: keys},
        )
    return replace(tenant, partner=partner, sandbox=sandbox)


def move_in(tenant: Tenant, *persons: Mapping[str, Any]) -> list[str]:
    """Have the partner register people; their ids there."""
    system = SandboxConfig().patient_identifier_system
    ids = [f"p{uuid4().hex[:8]}" for _ in persons]
    for id_, person in zip(ids, persons, strict=True):
        number = [{"system": system, "value": id_}]
        tenant.sandbox.put({"resourceType": "Patient", "id": id_, "active": True, "identifier": number, **person})
    return ids


def renamed(tenant: Tenant, id_: str, **persons: Any) -> None:
    """Have the partner write other particulars under an id."""
    theirs = next(each for each in tenant.sandbox.state("Patient") if each["id"] == id_)
    tenant.sandbox.put(theirs | persons)


@pytest.fixture
def reused(tenant: Tenant) -> tuple[Tenant, str, UUID]:
    """A tenant, an id at the partner that means another person now, and whom it meant before."""
    (id_,) = move_in(tenant, people(1)[0])
    bring_in(tenant)
    ours = links(tenant)[id_]
    renamed(tenant, id_, **ANOTHER)
    report = bring_in(tenant)
    assert (report.applied, report.held, report.waiting, report.held_fields) == (0, 1, 1, {})
    return tenant, id_, ours


def test_an_id_that_means_another_person_writes_over_nobody_and_no_visit_goes_there(
    reused: tuple[Tenant, str, UUID],
) -> None:
    tenant, _, ours = reused
    assert clients(tenant)[ours].family_name == "佐藤"
    ((_, why, params),) = waiting(tenant)
    assert (why, params) == ("partner_id_reused", {"records": str(ours)})
    is_told("partner_id_reused", params)
    start = mark(tenant.sandbox)
    tenant.add_visit(client_id=ours, staff_id=None)
    push_now(tenant)
    assert calls(tenant.sandbox, "POST", "PUT", after=start) == []
    assert (carry_over(tenant).waiting, due_tenants(tenant)) == (1, ())
    held = tenant.sql("SELECT FROM sync.master_result WHERE reason = 'partner_id_reused'", Login.OPERATOR)
    assert len(held) == 1  # no second row for what waits already


def test_the_same_person_after_all_is_written_and_keeps_the_record(reused: tuple[Tenant, str, UUID]) -> None:
    tenant, id_, ours = reused
    tenant.add_visit(client_id=ours, staff_id=None)
    assert push_now(tenant).delivered == 0
    say(tenant, Act.SAME)
    assert due_tenants(tenant) == (tenant.name,)

    assert carry_over(tenant).applied == 1

    assert links(tenant)[id_] == ours
    assert (clients(tenant)[ours].family_name, clients(tenant)[ours].birth_date) == ("田中", "1961-07-08")
    assert (waiting(tenant), due_tenants(tenant)) == ([], ())
    assert push_now(tenant).delivered == 1
    (audited,) = tenant.sql("SELECT detail FROM sync.audit WHERE act = 'settle_identity'", Login.OPERATOR)
    assert audited.detail["act"] == "same"


def test_another_person_gets_a_record_and_whom_the_id_meant_before_is_retired(
    reused: tuple[Tenant, str, UUID],
) -> None:
    tenant, id_, ours = reused
    say(tenant, Act.NEW)

    assert carry_over(tenant).applied == 1

    theirs = links(tenant)[id_]
    assert theirs != ours
    old, new = clients(tenant)[ours], clients(tenant)[theirs]
    assert (old.family_name, old.active, new.family_name, new.active) == ("佐藤", False, "田中", True)
    spans = tenant.sql(
        "SELECT record_id, valid_to IS NULL AS is_valid FROM sync.identity WHERE partner_id = :id ORDER BY valid_from",
        Login.OPERATOR,
        id=id_,
    )
    assert [(span.record_id, span.is_valid) for span in spans] == [(ours, False), (theirs, True)]


def test_what_the_partner_takes_back_needs_no_word(reused: tuple[Tenant, str, UUID]) -> None:
    tenant, id_, ours = reused
    renamed(tenant, id_, **people(1)[0])

    assert bring_in(tenant).waiting == 0

    assert links(tenant)[id_] == ours
    assert waiting(tenant) == []


def test_a_word_about_one_person_is_not_taken_for_a_third(reused: tuple[Tenant, str, UUID]) -> None:
    tenant, id_, ours = reused
    say(tenant, Act.SAME)
    renamed(tenant, id_, birthDate="1977-01-01")

    assert bring_in(tenant).waiting == 1

    assert clients(tenant)[ours].family_name == "佐藤"
    assert due_tenants(tenant) == ()


def test_a_link_to_whom_the_list_itself_names_keeps_the_record_and_its_owner(reused: tuple[Tenant, str, UUID]) -> None:
    tenant, id_, ours = reused
    say(tenant, Act.LINK, ours)

    assert carry_over(tenant).applied == 1

    assert links(tenant)[id_] == ours
    assert owners(tenant, ours) == [tenant.partner.name]
    assert (clients(tenant)[ours].family_name, clients(tenant)[ours].active) == ("田中", True)


@pytest.mark.parametrize("at_once", [True, False])
def test_two_ids_that_were_swapped_keep_both_records_in_force(tenant: Tenant, at_once: bool) -> None:
    one, two = move_in(tenant, people(1)[0], ANOTHER)
    bring_in(tenant)
    first, last = links(tenant)[one], links(tenant)[two]
    renamed(tenant, one, **ANOTHER)
    renamed(tenant, two, **people(1)[0])
    assert bring_in(tenant).waiting == 2

    for number, _, params in waiting(tenant):
        say(tenant, Act.LINK, last if params["records"] == str(first) else first, number=number)
        if not at_once:
            carry_over(tenant)
    carry_over(tenant)

    assert (links(tenant)[one], links(tenant)[two]) == (last, first)
    assert [(clients(tenant)[each].family_name, clients(tenant)[each].active) for each in (first, last)] == [
        ("佐藤", True),
        ("田中", True),
    ]
    assert owners(tenant, first) == owners(tenant, last) == [tenant.partner.name]


@pytest.mark.parametrize("word", [None, Act.NEW])
def test_a_record_that_has_another_id_by_now_does_not_end_with_its_old_one(tenant: Tenant, word: Act | None) -> None:
    one, two = move_in(tenant, people(1)[0], people(2)[1] | {"name": people(1)[0]["name"]})
    bring_in(tenant)
    first = links(tenant)[one]
    renamed(tenant, one, **ANOTHER)
    renamed(tenant, two, name=ANOTHER["name"], birthDate="1977-01-01")  # both numbers are given to others
    assert bring_in(tenant).waiting == 2
    of_one, of_two = (
        next(number for number, _, params in waiting(tenant) if (params["records"] == str(first)) is is_one)
        for is_one in (True, False)
    )
    say(tenant, Act.LINK, first, number=of_two)
    carry_over(tenant)
    assert links(tenant)[two] == first

    if word is None:
        tenant.sandbox.delete("Patient", one)
        bring_in(tomorrow(tenant))
    else:
        say(tenant, word, number=of_one)
        carry_over(tenant)

    assert clients(tenant)[first].active
    assert links(tenant)[two] == first


def test_a_record_whose_new_id_is_refused_stays_in_force(tenant: Tenant) -> None:
    one, two = move_in(tenant, people(1)[0], people(2)[1] | {"name": people(1)[0]["name"]})
    bring_in(tenant)
    first = links(tenant)[one]
    renamed(tenant, one, **ANOTHER)
    renamed(tenant, two, name=ANOTHER["name"], birthDate="1977-01-01")
    bring_in(tenant)
    number = next(number for number, _, params in waiting(tenant) if params["records"] != str(first))
    say(tenant, Act.LINK, first, number=number)
    tenant.sandbox.delete("Patient", two)  # who was to have it is gone before the word is carried out

    bring_in(tomorrow(tenant))

    assert clients(tenant)[first].active
    assert two not in links(tenant)


def test_an_id_given_to_another_person_in_two_steps_is_noticed_and_a_persons_word_settles_it(tenant: Tenant) -> None:
    (id_,) = move_in(tenant, people(1)[0])
    bring_in(tenant)
    ours = links(tenant)[id_]
    renamed(tenant, id_, name=ANOTHER["name"])
    assert bring_in(tenant).applied == 1
    renamed(tenant, id_, birthDate=ANOTHER["birthDate"])

    assert bring_in(tenant).waiting == 1
    assert clients(tenant)[ours].birth_date == "1940-01-01"

    say(tenant, Act.SAME)
    assert carry_over(tenant).applied == 1
    renamed(tenant, id_, birthDate="1961-07-09")
    assert bring_in(tenant).applied == 1  # of whom it was said


def test_others_are_matched_by_the_number_that_the_owner_calls_a_record_by_now(
    tenant: Tenant, other: RunningSandbox
) -> None:
    (ours,) = move_in(tenant, people(1)[0])
    bring_in(tenant)
    number = [{"system": SandboxConfig().patient_identifier_system, "value": "0200"}]
    renamed(tenant, ours, identifier=number)
    assert bring_in(tenant).applied == 1
    there = second(tenant, other, creates=(), keys=("number", "birth_date"))
    (theirs,) = move_in(there, people(1)[0] | {"identifier": number})

    assert bring_in(there).applied == 1
    assert links(there)[theirs] == links(tenant)[ours]


def test_a_second_partner_links_whom_it_can_tell_and_writes_nobody(tenant: Tenant, other: RunningSandbox) -> None:
    first = move_in(tenant, *people(4))
    bring_in(tenant)
    there = second(tenant, other, creates=(), keys=KEYS)
    twin = people(4)[1] | {"birthDate": "1940-01-01", "gender": "male"}
    known, twice, again, stranger, odd = move_in(
        there, people(4)[0], people(4)[1], people(4)[1], people(5)[4], twin | {"name": [_name("IDE", "佐藤")]}
    )
    before = clients(tenant)

    report = bring_in(there)

    assert (report.applied, report.waiting, report.rejected) == (1, 4, 0)
    assert links(there) == {known: links(tenant)[first[0]]}
    reasons = sorted(why for _, why, _ in waiting(there))
    assert reasons == ["identity_ambiguous", "identity_ambiguous", "identity_unmatched", "identity_unmatched"]
    changed = next(each for each in other.state("Patient") if each["id"] == known)
    other.put(changed | {"gender": "male", "address": [{"text": "みどり市"}]})
    assert bring_in(there).applied == 1
    other.delete("Patient", known)
    assert bring_in(tomorrow(there)).applied == 1
    assert clients(tenant) == before
    assert {twice, again, stranger, odd}.isdisjoint(links(there))


def test_a_partner_that_only_links_is_asked_for_a_past_moment_as_well(tenant: Tenant, other: RunningSandbox) -> None:
    """What it said then, under our record; the first partner's answer is what our record held."""
    (first,) = move_in(tenant, people(1)[0] | {"address": [{"text": "みどり市"}]})
    bring_in(tenant)
    there = second(tenant, other, creates=(), keys=KEYS)
    (theirs,) = move_in(there, people(1)[0] | {"address": [{"text": "あおば市"}]})
    bring_in(there)
    then = datetime.now(UTC)
    move_to(there, theirs, "わかば市")
    bring_in(tomorrow(there))

    def said(partner: str, at: datetime) -> list[tuple[UUID, str, str]]:
        with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
            found = history.as_of(tx, Scope(tenant.name, partner, CLIENT), at)
            return [(each.record_id, each.partner_id, each.master["address"]) for each in found]

    record = links(tenant)[first]
    assert said("other", then) == [(record, theirs, "あおば市")]
    assert said("other", datetime.now(UTC)) == [(record, theirs, "わかば市")]
    assert (record, first, "みどり市") in said("fhir", datetime.now(UTC))


def test_whoever_is_registered_later_is_linked_by_itself(tenant: Tenant, other: RunningSandbox) -> None:
    there = second(tenant, other, creates=(), keys=("number", "birth_date"))
    shared = {"identifier": [{"system": SandboxConfig().patient_identifier_system, "value": "0042"}]}
    (theirs,) = move_in(there, people(1)[0] | shared)
    assert bring_in(there).waiting == 1
    (ours,) = move_in(tenant, people(1)[0] | shared)
    bring_in(tenant)

    assert carry_over(there).applied == 1

    assert links(there)[theirs] == links(tenant)[ours]


def test_a_second_partner_waits_until_somebody_says_how_to_match_and_a_person_may_link_or_add(
    tenant: Tenant, other: RunningSandbox
) -> None:
    (ours,) = move_in(tenant, people(1)[0])
    bring_in(tenant)
    there = second(tenant, other)
    move_in(there, people(1)[0], people(2)[1])
    assert bring_in(there).waiting == 2
    (one, why, _), (two, _, _) = waiting(there)
    assert why == "identity_unmatched"
    is_told("identity_unmatched")
    with pytest.raises(StoreError, match="nobody before"):
        say(there, Act.SAME)
    with pytest.raises(StoreError, match="no such record of ours"):
        say(there, Act.LINK, uuid4())
    with pytest.raises(StoreError, match="does not wait"):
        say(there, Act.NEW, number=1)

    say(there, Act.LINK, links(tenant)[ours], number=one)
    say(there, Act.NEW, number=two)

    assert carry_over(there).applied == 2
    made = set(links(there).values())
    assert links(tenant)[ours] in made
    owned = tenant.sql("SELECT is_owner FROM sync.identity WHERE partner = 'other' ORDER BY is_owner", Login.OPERATOR)
    assert [row.is_owner for row in owned] == [False, True]


def test_a_link_to_a_record_that_was_linked_meanwhile_ends_in_nothing_and_is_told(
    tenant: Tenant, other: RunningSandbox
) -> None:
    (ours,) = move_in(tenant, people(1)[0])
    bring_in(tenant)
    there = second(tenant, other)
    move_in(there, people(2)[1], people(3)[2])
    bring_in(there)
    numbers = [number for number, _, _ in waiting(there)]
    for number in numbers:
        say(there, Act.LINK, links(tenant)[ours], number=number)

    report = carry_over(there)

    assert (report.applied, report.waiting) == (1, 1)
    ((_, why, params),) = waiting(there)
    assert (why, params) == ("identity_ambiguous", {"records": str(links(tenant)[ours])})
    is_told("identity_ambiguous", params)
    assert due_tenants(there) == ()


# --- Undoing a link ---------------------------------------------------------------------------------------------------


def undo(tenant: Tenant, partner_id: str, entity: Entity | None = None) -> None:
    settle.unlink(tenant.services, tenant.partner, tenant.name, partner_id, "they are two", entity)


def test_a_wrong_link_is_undone_ours_stays_as_it_is_and_a_person_says_who_it_is(
    tenant: Tenant, other: RunningSandbox
) -> None:
    right, wrong = move_in(tenant, *people(2))
    bring_in(tenant)
    there = second(tenant, other, creates=(), keys=KEYS)
    (theirs,) = move_in(there, people(2)[1])
    bring_in(there)
    before, ours = clients(tenant), links(tenant)
    assert links(there) == {theirs: ours[wrong]}

    undo(there, theirs)

    assert due_tenants(there) == (there.name,)
    assert (carry_over(there).waiting, links(there), clients(tenant)) == (1, {}, before)
    assert (due_tenants(there), carry_over(there).waiting, links(there)) == ((), 1, {})
    assert bring_in(tomorrow(there)).waiting == 1  # another reading changes nothing
    start = mark(other)
    tenant.add_visit(client_id=ours[wrong], staff_id=None)
    push_now(there)
    assert calls(other, "POST", "PUT", after=start) == []
    say(there, Act.LINK, ours[right])
    assert (carry_over(there).applied, links(there)) == (1, {theirs: ours[right]})
    undo(there, theirs)
    carry_over(there)
    say(there, Act.LINK, ours[wrong])
    assert (carry_over(there).applied, links(there), clients(tenant)) == (1, {theirs: ours[wrong]}, before)
    statement = (
        "SELECT record_id, valid_to IS NULL AS now FROM sync.identity WHERE partner = 'other' ORDER BY valid_from"
    )
    history = [tuple(row) for row in tenant.sql(statement, Login.OPERATOR)]
    assert history == [(ours[wrong], False), (ours[right], False), (ours[wrong], True)]
    (audited, _) = tenant.sql("SELECT detail FROM sync.audit WHERE act = 'unlink_identity'", Login.OPERATOR)
    assert audited.detail["reason"] == "they are two"


def test_an_undone_link_does_not_come_back_though_a_name_is_corrected(tenant: Tenant, other: RunningSandbox) -> None:
    move_in(tenant, people(1)[0])
    bring_in(tenant)
    there = second(tenant, other, creates=(), keys=KEYS)
    (theirs,) = move_in(there, people(1)[0])
    bring_in(there)
    undo(there, theirs)
    assert carry_over(there).waiting == 1
    renamed(there, theirs, name=[_name("IDE", "佐籐"), _name("SYL", "サトウ")])
    report = bring_in(tomorrow(there))
    assert (report.waiting, links(there)) == (1, {})


def test_an_undone_record_is_not_made_anew_though_a_name_is_corrected(tenant: Tenant) -> None:
    (id_,) = move_in(tenant, people(1)[0])
    bring_in(tenant)
    undo(tenant, id_)
    assert carry_over(tenant).waiting == 1
    before = len(clients(tenant))
    renamed(tenant, id_, name=[_name("IDE", "佐籐"), _name("SYL", "サトウ")])
    report = bring_in(tomorrow(tenant))
    assert (report.waiting, len(clients(tenant))) == (1, before)


def test_the_record_that_a_link_made_is_kept_when_it_is_undone_and_a_new_one_is_made_on_a_persons_word(
    tenant: Tenant,
) -> None:
    """The partner that makes the masters: its record is not made anew by itself, changed or not, gone or not."""
    id_, lost = move_in(tenant, *people(2))
    bring_in(tenant)
    ours, before = links(tenant), clients(tenant)
    undo(tenant, id_)
    undo(tenant, lost)
    carry_over(tenant)
    theirs = {each["id"]: each for each in tenant.sandbox.state("Patient")}
    tenant.sandbox.put(theirs[id_] | {"address": [{"text": "みどり市"}]})
    tenant.sandbox.delete("Patient", lost)
    assert bring_in(tomorrow(tenant)).waiting == 1
    assert clients(tenant) == before
    say(tenant, Act.NEW)
    assert carry_over(tenant).applied == 1
    assert links(tenant)[id_] not in ours.values()
    assert {each: clients(tenant)[each] for each in before} == before  # still in force
    assert len(clients(tenant)) == len(before) + 1


def test_what_cannot_be_undone_is_refused_in_words(tenant: Tenant) -> None:
    (id_,) = move_in(tenant, people(1)[0])
    bring_in(tenant)
    with pytest.raises(StoreError, match="linked to none"):
        undo(tenant, "nobody")
    with pytest.raises(StoreError, match="linked to none"):
        undo(tenant, id_, Entity.STAFF)
    with pytest.raises(StoreError, match="why"):
        settle.unlink(tenant.services, tenant.partner, tenant.name, id_, "  ")
    undo(tenant, id_, CLIENT)
    assert links(tenant).keys() >= {id_}  # until it is carried out
    carry_over(tenant)
    with pytest.raises(StoreError, match="linked to none"):
        undo(tenant, id_)


# --- Whose a master is ------------------------------------------------------------------------------------------------


def address(tenant: Tenant, record: UUID) -> str:
    return str(clients(tenant)[record].address)


def move_to(tenant: Tenant, partner_id: str, place: str) -> None:
    theirs = next(each for each in tenant.sandbox.state("Patient") if each["id"] == partner_id)
    tenant.sandbox.put(theirs | {"address": [{"text": place}]})


def owners(tenant: Tenant, record: UUID) -> list[str]:
    statement = "SELECT partner FROM sync.identity WHERE record_id = :record AND is_owner AND valid_to IS NULL"
    return [row.partner for row in tenant.sql(statement, Login.OPERATOR, record=record)]


def test_the_owner_stays_whatever_happens_to_it_until_a_person_names_another_one(
    tenant: Tenant, other: RunningSandbox
) -> None:
    (first,) = move_in(tenant, people(1)[0] | {"address": [{"text": "みどり市"}]})
    bring_in(tenant)
    record = links(tenant)[first]
    there = second(tenant, other, creates=(), keys=KEYS)
    (theirs,) = move_in(there, people(1)[0] | {"address": [{"text": "あおば市"}]})
    bring_in(there)
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        tenants.pause(tx, tenant.name, tenant.partner.name, "it is given up")
    move_to(there, theirs, "わかば市")
    bring_in(tomorrow(there))
    assert (address(tenant, record), owners(tenant, record)) == ("みどり市", ["fhir"])

    assert settle.own(there.services, there.partner, there.name, CLIENT, "the first system is given up") == 1

    assert due_tenants(there) == (there.name,)
    carry_over(there)
    assert (address(tenant, record), owners(tenant, record), due_tenants(there)) == ("わかば市", ["other"], ())
    move_to(there, theirs, "こだま市")
    bring_in(tomorrow(there, 2))
    assert address(tenant, record) == "こだま市"
    with tenant.services.database.transaction(Login.OPERATOR, tenant.name) as tx:
        tenants.resume(tx, tenant.name, tenant.partner.name)
    move_to(tenant, first, "かえで市")
    bring_in(tomorrow(tenant, 2))
    assert (address(tenant, record), owners(tenant, record)) == ("こだま市", ["other"])
    assert settle.own(there.services, there.partner, there.name, CLIENT, "once more") == 0
    assert settle.own(tenant.services, tenant.partner, tenant.name, CLIENT, "and back") == 1
    carry_over(there)  # whoever comes next carries it out
    assert owners(tenant, record) == ["fhir"]
    carry_over(tenant)
    assert address(tenant, record) == "かえで市"


@pytest.fixture
def linked(tenant: Tenant, other: RunningSandbox) -> tuple[Tenant, list[str], list[str]]:
    """Twenty of the first partner's clients, of whom a second one has another address; and their ids at both."""
    here = move_in(tenant, *(each | {"address": [{"text": "みどり市"}]} for each in people(20)))
    bring_in(tenant)
    there = second(tenant, other, creates=(), keys=KEYS)
    others = move_in(there, *(each | {"address": [{"text": "青葉市"}]} for each in people(20)))
    bring_in(there)
    return there, here, others


def own(there: Tenant) -> None:
    """Name the second partner the owner."""
    settle.own(there.services, there.partner, there.name, CLIENT, "the first system is given up")


def test_what_a_new_owner_writes_over_meets_the_guard(
    tenant: Tenant, linked: tuple[Tenant, list[str], list[str]]
) -> None:
    there, here, _ = linked
    own(there)
    report = carry_over(there)
    assert report.held_fields["address"] == report.held == 20
    assert {address(tenant, record) for record in map(links(tenant).__getitem__, here)} == {"みどり市"}
    held = settle.mass_changes(there.services, there.partner, there.name)
    settle.approve(there.services, there.partner, there.name, held)
    assert carry_over(there).applied == 20
    assert {address(tenant, record) for record in map(links(tenant).__getitem__, here)} == {"青葉市"}


def test_what_a_new_owner_only_spells_otherwise_meets_no_guard(tenant: Tenant, other: RunningSandbox) -> None:
    phone = [{"system": "phone", "value": "03-1234-5678"}]
    here = move_in(tenant, *(each | {"telecom": phone} for each in people(20)))
    bring_in(tenant)
    there = second(tenant, other, creates=(), keys=KEYS)
    move_in(there, *(each | {"telecom": [phone[0] | {"value": "０３（１２３４）５６７８"}]} for each in people(20)))
    bring_in(there)
    own(there)
    report = carry_over(there)
    assert (report.held_fields, report.changed, report.applied) == ({}, {}, 20)
    assert clients(tenant)[links(tenant)[here[0]]].phone == "０３（１２３４）５６７８"


def test_what_a_partner_does_not_own_counts_not_beside_what_it_does(
    tenant: Tenant, linked: tuple[Tenant, list[str], list[str]]
) -> None:
    there, _, others = linked
    owned = move_in(there, *({**ANOTHER, "birthDate": f"1955-02-{day:02}"} for day in range(1, 21)))
    bring_in(tomorrow(there))
    for number in [each[0] for each in waiting(there)]:
        say(there, Act.NEW, number=number)
    carry_over(there)
    for id_ in (*others[:12], *owned[:3]):
        move_to(there, id_, "わかば市")
        report = bring_in(tomorrow(there, 2))
        assert (report.applied, report.held, report.changed_lately) == (1, 0, {})


def test_an_owner_whose_link_is_undone_before_it_is_one_leaves_the_record_to_the_old_one(
    tenant: Tenant, linked: tuple[Tenant, list[str], list[str]]
) -> None:
    there, here, others = linked
    record = links(there)[others[0]]
    own(there)
    undo(there, others[0])
    carry_over(tenant)
    carry_over(there)
    assert owners(tenant, record) == ["fhir"]
    assert owners(tenant, links(tenant)[here[1]]) == ["other"]


@pytest.mark.parametrize("ends", [Act.NEW, Act.SAME, None])
def test_an_id_in_question_ends_nobody_whom_another_partner_owns_by_then(
    tenant: Tenant, linked: tuple[Tenant, list[str], list[str]], ends: Act | None
) -> None:
    there, here, others = linked
    record = links(there)[others[0]]
    renamed(tenant, here[0], **ANOTHER)
    bring_in(tomorrow(tenant))
    own(there)
    carry_over(there)
    if ends is None:
        tenant.sandbox.delete("Patient", here[0])
    else:
        say(tenant, ends)
    bring_in(tomorrow(tenant, 2))
    assert waiting(tenant) == []
    assert (clients(tenant)[record].active, owners(tenant, record)) == (True, ["other"])
    assert (links(tenant).get(here[0]) == record) == (ends is Act.SAME)


def test_the_new_owners_word_that_a_record_is_gone_counts_too(
    tenant: Tenant, linked: tuple[Tenant, list[str], list[str]]
) -> None:
    there, _, others = linked
    record = links(there)[others[0]]
    there.sandbox.delete("Patient", others[0])
    bring_in(tomorrow(there))
    assert clients(tenant)[record].active
    own(there)
    carry_over(there)
    assert owners(tenant, record) == ["other"]
    assert not clients(tenant)[record].active


def test_of_each_kind_of_master_the_first_connection_makes_them(tenant: Tenant, other: RunningSandbox) -> None:
    def creates(partner: str) -> set[str]:
        (row,) = tenant.sql("SELECT creates FROM sync.connection WHERE partner = :p", Login.OPERATOR, p=partner)
        return set(row.creates)

    second(tenant, other)
    assert (creates("fhir"), creates("other")) == ({"client", "staff"}, set())
    second(tenant, other, creates=(Entity.STAFF,))
    second(tenant, other)  # connected again, and nothing said: as it was
    assert (creates("fhir"), creates("other")) == ({"client", "staff"}, {"staff"})
