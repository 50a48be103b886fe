"""The certification fails whom it should: connectors that are bad on purpose, and partners that declare too much."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any

import fhir_bench
import httpx
import paramiko
import pytest
import token_bench
from partner import PROOFS
from partner_process import RunningPartner, running_partner
from proof_bench import ProofBench
from test_connectors import http_client

import partners
from partners.carecsv import client, sftp
from partners.carecsv.sandbox.bench import CareCsvBench
from partners.carecsv.sandbox.office import CareOffice
from partners.carecsv.sftp import Sftp
from partners.certification import certificate as certificate_
from partners.certification import hostile, lines, real
from partners.certification.bench import Bench, BenchMissingError, benches_of
from partners.certification.certificate import ROWS, Certificate, Result, Verdict, certificate, certify, run_row
from partners.certification.trial import Trial
from partners.contract import (
    Command,
    Connection,
    Connector,
    Delivered,
    Entity,
    Gate,
    Gone,
    Page,
    Partner,
    Plan,
    PlanPage,
    Recovery,
    Refused,
    Reply,
    Retry,
    SourceRecord,
    Unknown,
)
from partners.errors import AuthenticationError, Deferred, PartnerError, RejectedError, RetryableError
from partners.fhir.sandbox.testing import running_sandbox
from partners.reasons import Language, explain
from partners.registry import PARTNERS
from zest_pipelines.cli import new_partner, run
from zest_pipelines.cli.new_partner import write_partner

_HOSTILE = hostile.hostile_answers
_BY_NAME = {row.name: row for row in ROWS}


@dataclass(frozen=True)
class Bad:
    """A connector that is one for the proofs but for its writing."""

    honest: Any
    client: httpx.Client
    gate: Gate
    base: str

    def __getattr__(self, name: str) -> Any:
        return getattr(self.honest, name)


class Resending(Bad):
    """Sends again what was not answered, without looking."""

    def send(self, command: Command) -> Reply:
        """Until it is answered."""
        reply: Reply = self.honest.send(command)
        return self.honest.send(command) if isinstance(reply, Unknown) else reply


class Trusting(Bad):
    """Takes any 200 for a success."""

    def send(self, command: Command) -> Reply:
        """Delivered if it is a 200, whatever stands in it."""
        self.gate.admit("visits")
        try:
            answer = self.client.post(f"{self.base}/visits", json={})
        except httpx.HTTPError:
            return Unknown("connection_cut_unsure")
        return Delivered(str(command.record_id), "") if answer.status_code == 200 else Retry("partner_busy")


class Leaking(Bad):
    """Lets out what the network does."""

    def send(self, command: Command) -> Reply:
        """Raises."""
        self.client.post(f"{self.base}/visits", json={}).raise_for_status()
        return self.honest.send(command)  # type: ignore[no-any-return]


class Hasty(Bad):
    """Makes a call that nobody admitted."""

    def send(self, command: Command) -> Reply:
        """After a look."""
        self.client.get(f"{self.base}/visits/1")
        return self.honest.send(command)  # type: ignore[no-any-return]


class Sure(Bad):
    """Says of what may be there that it is not."""

    def send(self, command: Command) -> Reply:
        """Never in doubt."""
        reply: Reply = self.honest.send(command)
        return Retry("partner_busy") if isinstance(reply, Unknown) else reply


class Curt(Bad):
    """Gives a reason and not what it mentions."""

    def send(self, command: Command) -> Reply:
        """Never taken."""
        return Refused("content_refused")


class Swallowing(Bad):
    """Takes a reading that broke off for one that has ended."""

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """Never raises."""
        try:
            yield from self.honest.read(entity, cursor, resume)
        except RetryableError:
            yield Page((), is_full=cursor is None, is_last=True)


class Forgetful(Bad):
    """Loses the last record of a page that is full."""

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """All but one."""
        for page in self.honest.read(entity, cursor, resume):
            yield replace(page, records=page.records[:99])


class Impatient(Bad):
    """Reads no second page of changes."""

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """One page of changes; all of a full reading."""
        for page in self.honest.read(entity, cursor, resume):
            if cursor is None:
                yield page
            else:
                yield replace(page, is_last=True, cursor=page.cursor or cursor)
                return


class Hopeless(Bad):
    """Takes whoever cannot be read for gone."""

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """Never raises."""
        try:
            found: SourceRecord | Gone = self.honest.fetch(entity, partner_id)
        except PartnerError:
            return Gone()
        return found


class Stubborn(Bad):
    """Never believes that anybody is gone."""

    def fetch(self, entity: Entity, partner_id: str) -> SourceRecord | Gone:
        """As it was once."""
        found = self.honest.fetch(entity, partner_id)
        return SourceRecord(partner_id, "", {}) if found == Gone() else found


class Prying(Bad):
    """Looks before it reads, and asks nobody."""

    def read(self, entity: Entity, cursor: str | None, resume: str | None = None) -> Iterator[Page]:
        """After a call."""
        self.client.get(self.base)
        yield from self.honest.read(entity, cursor, resume)


@pytest.fixture
def few_hostile(monkeypatch: pytest.MonkeyPatch) -> None:
    """One hostile answer is enough to see that a row notices."""
    each = next(each for each in _HOSTILE("") if each.name == "a web page with 200")
    monkeypatch.setattr(hostile, "hostile_answers", lambda _: (each,))


@pytest.fixture(scope="module")
def crews() -> Iterator[Bench]:
    with benches_of("smarthr")[""]() as bench:
        yield bench


@pytest.mark.parametrize(
    ("bad", "row", "finding"),
    [
        (Swallowing, "reading broken off", "read to its end though answer 1 of 2 was cut"),
        (Swallowing, "hostile to readings", "a web page with 200: read as 1 pages"),
        (Forgetful, "one page", "1 of 100 records did not come"),
        (Impatient, "changes", "1 of 101 with equal times did not come"),
        (Hopeless, "hostile to readings", "a web page with 200: taken as the word about one record"),
        (Stubborn, "deletes", "a deleted record is not told as gone"),
        (Prying, "gate before reading", "1 asked for, 2 calls made"),
    ],
)
def test_a_connector_that_reads_badly_fails(
    crews: Bench, few_hostile: None, monkeypatch: pytest.MonkeyPatch, bad: type[Bad], row: str, finding: str
) -> None:
    monkeypatch.setattr(crews, "partner", opening(crews.partner, bad), raising=False)
    result = run_row(_BY_NAME[row], Trial(crews, http_client))
    assert result.verdict is Verdict.FAILS
    assert finding in result.detail


@pytest.fixture
def files() -> Iterator[Bench]:
    with benches_of("carecsv")["sftp"]() as bench:
        yield bench


def believing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes any server for the one that was named."""
    monkeypatch.setattr(sftp, "_decoded", lambda _: Anything(b"a key"))


class Anything(bytes):
    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = None  # type: ignore[assignment]


def blaming(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes each login that did not come about for a wrong credential."""

    def log_in(self: Sftp, transport: paramiko.Transport) -> None:
        try:
            transport.auth_password(self.login.user, self.login.password)
        except paramiko.AuthenticationException:
            raise AuthenticationError("credential_refused") from None

    monkeypatch.setattr(Sftp, "_log_in", log_in)


def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a deadline of its own."""
    own = sftp.Bounds(total_seconds=7.0)
    monkeypatch.setattr(sftp, "Bounds", lambda *_: own)
    monkeypatch.setattr(lines, "SLACK", 2.0)


def careless(monkeypatch: pytest.MonkeyPatch) -> None:
    """Takes what came of a file for all of it."""

    def read(self: Sftp, name: str, most: int) -> bytes | None:
        with self._asked() as client:
            try:
                with client.open(self._at(name), "rb") as file:
                    return file.read(most)  # type: ignore[no-any-return]
            except FileNotFoundError:
                return None

    monkeypatch.setattr(Sftp, "read", read)


def direct(monkeypatch: pytest.MonkeyPatch) -> None:
    """Writes a file under its own name."""

    def put(self: Sftp, name: str, content: bytes) -> None:
        with self._asked() as client:
            client.putfo(io.BytesIO(content), self._at(name))

    monkeypatch.setattr(Sftp, "put", put)


def deaf(monkeypatch: pytest.MonkeyPatch) -> None:
    """Does not hear what the server says of a write."""
    put = Sftp.put

    def heedless(self: Sftp, name: str, content: bytes) -> None:
        with suppress(OSError):
            put(self, name, content)

    monkeypatch.setattr(Sftp, "put", heedless)


def hopeful(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tries again what a person has to change."""
    monkeypatch.setattr(client, "failure", lambda _: RetryableError("partner_unreachable"))


def sure(monkeypatch: pytest.MonkeyPatch) -> None:
    """Says of a rename whose answer is lost that it was none."""
    monkeypatch.setattr(Sftp, "_rename", lambda self, of, part, name: of.posix_rename(part, name))


@pytest.mark.parametrize(
    ("bad", "row", "finding"),
    [
        (believing, "another server", "a server that is not the one named: it was shown the credential"),
        (blaming, "line cut in the login", "ends with AuthenticationError(credential_refused)"),
        (patient, "slow line", "a byte a second: it took 7."),
        (careless, "torn file", "a file that ends before its size: a reading of plans goes to its end"),
        (direct, "torn file there", "raised "),
        (deaf, "no room there", "no room for a file: a write is Delivered"),
        (hopeful, "no right there", "no right to write a file: a write is Retry(partner_unreachable)"),
        (sure, "rename lost", "a line that ends after a rename: a write is Retry(partner_unreachable)"),
    ],
)
def test_a_connector_that_is_bad_with_a_line_fails(
    files: Bench, monkeypatch: pytest.MonkeyPatch, bad: Callable[[pytest.MonkeyPatch], None], row: str, finding: str
) -> None:
    bad(monkeypatch)
    result = run_row(_BY_NAME[row], Trial(files, http_client))
    assert result.verdict is Verdict.FAILS
    assert finding in result.detail
    monkeypatch.undo()


Plans = Callable[[Connector, str | None], Iterator[PlanPage]]


def each_plan(change: Callable[[Plan], Plan | None]) -> Callable[[Plans], Plans]:
    """A reading whose plans are changed, or left out."""

    def made(honest: Plans) -> Plans:
        def read(connector: Connector, cursor: str | None) -> Iterator[PlanPage]:
            for page in honest(connector, cursor):
                yield replace(page, plans=tuple(plan for each in page.plans if (plan := change(each)) is not None))

        return read

    return made


def unheeding(honest: Plans) -> Plans:
    """Reads no changes."""

    def read(connector: Connector, cursor: str | None) -> Iterator[PlanPage]:
        yield from honest(connector, None) if cursor is None else iter([PlanPage((), cursor)])

    return read


def unasked(honest: Plans) -> Plans:
    """Asks no gate."""

    def read(connector: Connector, cursor: str | None) -> Iterator[PlanPage]:
        try:
            yield from honest(connector, cursor)
        except Deferred:
            yield PlanPage((), cursor)

    return read


def strict(honest: Plans) -> Plans:
    """Takes a reading for failed where one line is bad."""

    def read(connector: Connector, cursor: str | None) -> Iterator[PlanPage]:
        for page in honest(connector, cursor):
            for plan in page.plans:
                if plan.bad:
                    raise RejectedError("file_unreadable", {"file": "a file", "why": "line 2"})
            yield page

    return read


_times = count()
_lossy = each_plan(lambda plan: replace(plan, services=plan.services and plan.services[:-1]))
_fickle = each_plan(lambda plan: replace(plan, said_at=f"{next(_times):09}"))
_keeping = each_plan(lambda plan: None if plan.services is None else plan)
_emptying = each_plan(lambda plan: replace(plan, services=plan.services or ()))
_silent = each_plan(lambda plan: replace(plan, bad=()))
_vague = each_plan(lambda plan: replace(plan, bad=tuple(replace(each, params={"field": "x"}) for each in plan.bad)))
_losing = each_plan(lambda plan: None if plan.bad else plan)
_timeless = each_plan(lambda plan: replace(plan, said_at=""))


@pytest.mark.parametrize(
    ("bad", "row", "finding"),
    [
        (_lossy, "plans", "1 of 1 plans are otherwise than they were said last"),
        (_fickle, "plans again", "3 of 3 plans are not what they were, and nobody changed them"),
        (unheeding, "plan made anew", "1 of 3 plans are otherwise than they were said last"),
        (_keeping, "plan taken back", "1 of 3 plans are otherwise than they were said last"),
        (_emptying, "plan taken back", "1 of 3 plans are otherwise than they were said last"),
        (_silent, "line of a plan", "0 lines are told as unreadable, not 1"),
        (_vague, "line of a plan", "the line's file and line is not told"),
        (_losing, "line of a plan", "1 of 3 plans did not come"),
        (strict, "line of a plan", "ended with RejectedError(file_unreadable)"),
        (_timeless, "plans out of order", "1 of 3 plans are otherwise than they were said last"),
        (unasked, "plans put off", "plans were read although the gate put it off"),
    ],
)
def test_a_connector_that_reads_plans_badly_fails(bad: Callable[[Plans], Plans], row: str, finding: str) -> None:
    with benches_of("carecsv")[""]() as bench:
        assert run_row(_BY_NAME[row], Trial(bench, http_client)).verdict is Verdict.HOLDS
        honest = bench.partner.read_plans
        assert honest is not None
        bench.partner = replace(bench.partner, read_plans=bad(honest))
        result = run_row(_BY_NAME[row], Trial(bench, http_client))
    assert result.verdict is Verdict.FAILS
    assert finding in result.detail


def test_to_who_gives_no_plans_their_rows_do_not_apply(crews: Bench) -> None:
    for row in (row for row in ROWS if row.name.startswith(("plan", "line of a plan"))):
        result = run_row(row, Trial(crews, http_client))
        assert (result.verdict, result.detail) == (Verdict.APPLIES_NOT, "it gives no plans")


@pytest.fixture(scope="module")
def server() -> Iterator[RunningPartner]:
    with running_partner() as running:
        yield running


def tried(server: RunningPartner, bad: Callable[..., Bad] | None, row: str, **declared: Any) -> Result:
    """The row's result with proof_search, its connector replaced or its declaration changed."""
    bench = ProofBench("proof_search", server)
    capability = replace(bench.partner.capability, **declared)
    bench.partner = replace(opening(bench.partner, bad), capability=capability)
    return run_row(_BY_NAME[row], Trial(bench, http_client))


def opening(partner: Partner, bad: Callable[..., Bad] | None) -> Partner:
    """The partner with another connector."""

    def opened(connection: Connection, secret: Mapping[str, str], client: httpx.Client, gate: Gate) -> Connector:
        connector = partner.open(connection, secret, client, gate)
        return bad(connector, client, gate, connection.base_url) if bad else connector

    return replace(partner, open=opened)


@pytest.mark.parametrize(
    ("bad", "row", "finding"),
    [
        (Resending, "answer lost", "cut before its first byte: 2 records are there"),
        (Trusting, "hostile to writes", "a web page with 200: Delivered"),
        (Leaking, "nobody listens", "raised ConnectError"),
        (Hasty, "gate before writing", "1 asked for, 2 calls made"),
        (Sure, "answer lost", "it took effect and is Retry(partner_busy)"),
    ],
)
def test_a_connector_that_writes_badly_fails(
    server: RunningPartner, few_hostile: None, bad: type[Bad], row: str, finding: str
) -> None:
    result = tried(server, bad, row)
    assert result.verdict is Verdict.FAILS
    assert finding in result.detail


def test_a_reason_that_is_given_without_what_it_mentions_fails(server: RunningPartner) -> None:
    bench = ProofBench("proof_search", server)
    bench.partner = opening(bench.partner, Curt)
    trial = Trial(bench, http_client)
    run_row(_BY_NAME["refusal"], trial)
    assert run_row(_BY_NAME["reasons"], trial).detail == "content_refused is told without detail"


@pytest.mark.parametrize(
    ("declared", "row", "finding"),
    [
        ({"has_version_check": True}, "outdated version", "it is Delivered"),
        ({"recovery": Recovery.KEY}, "duplicates", "the repeat has another id"),
        ({"recovery": Recovery.CLIENT_ID}, "answer lost", "2 records are there, not 1"),
        ({"recovery": Recovery.NONE}, "read back", "finds without a declared way to find"),
        ({"replaces": True}, "create, change, cancel", "1 records are there, not 0"),
    ],
)
def test_who_declares_too_much_fails(
    server: RunningPartner, declared: Mapping[str, Any], row: str, finding: str
) -> None:
    result = tried(server, None, row, **declared)
    assert result.verdict is Verdict.FAILS
    assert finding in result.detail


def results(partner: str, *failing: str, not_applying: Sequence[str] = (), is_real: bool = False) -> Certificate:
    """A certificate in which these rows fail, or do not apply, and all others hold."""
    verdicts = {**dict.fromkeys(failing, Verdict.FAILS), **dict.fromkeys(not_applying, Verdict.APPLIES_NOT)}
    made = tuple(Result(row.name, "", verdicts.get(row.name, Verdict.HOLDS)) for row in ROWS)
    bench = Bench()
    bench.partner, bench.is_real, bench.url = PROOFS[partner], is_real, "http://127.0.0.1:1"
    return certificate(bench, made)


def test_a_class_is_earned_by_rows_that_hold_and_by_nothing_else() -> None:
    assert results("proof_version").is_passed
    for is_real in (False, True):  # faults are not tried there
        assert results("proof_version", not_applying=["answer lost"], is_real=is_real).is_passed is is_real
    for untried in (
        results("proof_version", "outdated version"),
        results("proof_version", not_applying=["outdated version"]),
    ):
        assert not untried.is_passed
        by_name = {each.name: each for each in untried.classes}
        assert (by_name["version check"].declared, by_name["version check"].earned) == ("yes", "no")
        assert by_name["recovery"].is_earned
    lost = {each.name: each for each in results("proof_key", "answer lost").classes}
    assert (lost["recovery"].declared, lost["recovery"].earned) == ("key", "none")
    assert not results("proof_none", "refusal").is_passed, "a row fails"
    assert results("proof_none", not_applying=["refusal"]).is_passed


def test_a_real_system_is_spared_faults_and_writes_that_nobody_allowed(
    server: RunningPartner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(hostile, "hostile_answers", lambda _: ())
    bench = ProofBench("proof_search", server)
    bench.is_real, before = True, len(server.log())
    told = {each.row: each for each in certify(bench, http_client, may_write=False)}
    assert told["create, change, cancel"].detail == "it writes one visit: allow it with --write"
    assert told["read all"].detail == "nothing is read"
    assert len(server.log()) == before
    told = {each.row: each for each in certify(bench, http_client)}
    assert told["answer lost"].detail == "it needs faults injected, which a real system is spared"
    assert told["create, change, cancel"].verdict is Verdict.HOLDS


def test_a_real_system_is_called_no_faster_than_its_partner_declares() -> None:
    bench = real.RealBench(PARTNERS["orca"], ("http://127.0.0.1:1", {}, {}), http_client, datetime.now(UTC))
    assert bench.pace == 0.5, "tenant:120/60s"


def test_there_are_some_45_hostile_answers_of_different_names() -> None:
    names = [each.name for each in hostile.hostile_answers("http://elsewhere.example")]
    assert len(set(names)) == len(names) >= 45


def test_a_partner_without_a_bench_is_told_what_to_write() -> None:
    with pytest.raises(BenchMissingError, match=r"partners/nobody/sandbox/bench\.py is missing"):
        benches_of("nobody")


@pytest.fixture
def zest(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Callable[..., tuple[int, str, str]]:
    """Runs a command in this process, without hostile answers: exit code, standard output, standard error."""
    monkeypatch.setattr(hostile, "hostile_answers", lambda _: ())

    def typed(*arguments: str) -> tuple[int, str, str]:
        capfd.readouterr()
        code = run(arguments)
        return code, *capfd.readouterr()

    return typed


def test_the_command_certifies_a_partner_at_its_sandbox(zest: Callable[..., tuple[int, str, str]]) -> None:
    code, output, _ = zest("certify", "smarthr", "--json")
    told = json.loads(output)
    assert code == 0
    assert told["is_passed"] is True
    assert [each["row"] for each in told["results"]] == [row.name for row in ROWS]
    assert {each["scheme"] for each in (*told["results"], *told["classes"])} == {"http"}
    assert {each["name"]: each["earned"] for each in told["classes"]} == {
        "recovery": "none",
        "version check": "no",
        "incremental": "yes",
        "proof of absence": "point read",
    }


def test_the_command_certifies_a_partner_at_each_kind_of_address(
    zest: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificate_, "ROWS", (_BY_NAME["check"], _BY_NAME["no right there"]))
    monkeypatch.setattr(certificate_, "_classes", lambda *_: ())
    code, output, _ = zest("certify", "carecsv", "--json")
    assert code == 0
    told = [(each["scheme"], each["row"], each["verdict"]) for each in json.loads(output)["results"]]
    assert told == [
        ("file", "check", "holds"),
        ("file", "no right there", "does not apply"),
        ("sftp", "check", "holds"),
        ("sftp", "no right there", "holds"),
    ]


def test_the_command_writes_at_a_real_system_if_that_is_allowed_and_cancels_it(
    zest: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real, "parse_limits", lambda *_: ())  # no pause between the calls
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"token": fhir_bench.CONFIG.token}))
    settings = (text for pair in fhir_bench.SETTINGS.items() for text in ("--set", "=".join(pair)))
    with running_sandbox(fhir_bench.CONFIG) as sandbox:
        typed = ("certify", "fhir", "--base-url", sandbox.url, "--secret-file", str(secret), *settings)
        code, output, _ = zest(*typed)
        assert code == 0, output
        assert "it writes one visit: allow it with --write" in output
        assert "is certified for reading; writing was not tried: allow it with --write." in output
        assert sandbox.state("Appointment") == []
        code, output, told = zest(*typed, "--write")
        assert code == 0, output
        assert {each["status"] for each in sandbox.state("Appointment")} == {"cancelled"}
        assert f"{len(sandbox.state('Appointment'))} visits were written" in told
        assert "What stays there of a cancelled one: the visit, as cancelled" in told
        assert "a-token" not in output


def test_a_system_that_gives_tokens_is_certified(
    zest: Callable[..., tuple[int, str, str]], few_hostile: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real, "parse_limits", lambda *_: ())
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps(token_bench.SECRET))
    settings = (text for pair in fhir_bench.SETTINGS.items() for text in ("--set", "=".join(pair)))
    with running_sandbox(token_bench.CONFIG) as sandbox:
        code, output, _ = zest(
            "certify", "fhir", "--base-url", sandbox.url, "--secret-file", str(secret), *settings, "--write", "--json"
        )
    told = {each["row"]: each for each in json.loads(output)["results"]}
    assert told["hostile to writes"]["verdict"] == "holds", told["hostile to writes"]["detail"]
    assert told["hostile to readings"]["verdict"] == "holds"
    assert code == 0


def test_a_real_system_that_is_only_read_is_certified(
    zest: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(real, "parse_limits", lambda *_: ())
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"token": "a-token"}))
    with benches_of("smarthr")[""]() as bench:
        bench.hold(Entity.STAFF, 2)
        typed = ("certify", "smarthr", "--base-url", bench.url, "--secret-file", str(secret))
        for more in ((), ("--write",)):
            code, output, told = zest(*typed, *more)
            assert code == 0, output
            assert "is certified." in output
            assert told == ("No visit was written\n" if more else "")


def test_where_a_visit_may_be_left_nothing_is_certified(
    zest: Callable[..., tuple[int, str, str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = real.Left("", "v1", "2027-01-04T09:00:00+09:00", "2027-01-04T10:00:00+09:00", False, "timeout_unsure")
    monkeypatch.setattr(real, "parse_limits", lambda *_: ())
    monkeypatch.setattr(real.RealBench, "left", [left])
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"token": "a-token"}))
    with benches_of("smarthr")[""]() as bench:
        bench.hold(Entity.STAFF, 2)
        typed = ("certify", "smarthr", "--base-url", bench.url, "--secret-file", str(secret))
        code, output, told = zest(*typed)
        assert (code, "is not certified: 1 test visit may be left there." in output) == (1, True), output
        assert "A test visit may be left there: v1" in told
        code, output, _ = zest(*typed, "--json")
        assert (code, json.loads(output)["is_passed"]) == (1, False)


@pytest.mark.parametrize(
    ("secret", "params", "verdict"),
    [
        ("us", {"detail": "busy"}, Verdict.HOLDS),
        ("us", {"detail": "of us"}, Verdict.FAILS),
        ("a-long-secret", {"detail": "it is a-long-secret."}, Verdict.FAILS),
    ],
)
def test_a_secret_is_shown_by_what_the_connector_says_and_not_by_the_catalogue(
    secret: str, params: Mapping[str, str], verdict: Verdict, crews: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(crews, "secret", {"token": secret}, raising=False)
    trial = Trial(crews, http_client, {"partner_busy": {}, "content_refused": params})
    assert run_row(_BY_NAME["reasons"], trial).verdict is verdict


def test_a_folder_is_certified_and_what_stays_there_is_told(
    zest: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    (tmp_path / "in").mkdir()
    settings = [text for pair in CareCsvBench.settings.items() for text in ("--set", "=".join(pair))]
    bench = CareCsvBench(CareOffice(tmp_path))
    bench.hold(Entity.CLIENT, 3)
    typed = ("certify", "carecsv", "--base-url", tmp_path.as_uri(), *settings)
    code, output, _ = zest(*typed)
    assert code == 0, output
    assert not (tmp_path / "zest-state").exists()
    code, output, told = zest(*typed, "--write")
    assert code == 0, output
    assert "in its client's file in zest-state; nothing in out" in told
    assert len(list((tmp_path / "zest-state").glob("*.json"))) == 1
    assert not list((tmp_path / "out").glob("*"))
    bench.hold_plans(2)
    code, output, _ = zest(*typed, "--write", "--json")
    assert code == 0
    assert {each["row"]: each["verdict"] for each in json.loads(output)["results"]}["plans again"] == "holds"


def test_a_wrong_secret_is_no_fault_of_the_connector_and_its_next_step_is_told(
    zest: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"token": "another"}))
    settings = [text for pair in fhir_bench.SETTINGS.items() for text in ("--set", "=".join(pair))]
    with running_sandbox(fhir_bench.CONFIG) as sandbox:
        code, output, _ = zest(
            "certify", "fhir", "--base-url", sandbox.url, "--secret-file", str(secret), *settings, "--write", "--json"
        )
        assert len(sandbox.journal()) <= 4, "a wrong secret is shown again and again"
    assert code == 1
    told = {each["row"]: each for each in json.loads(output)["results"]}
    assert {each["verdict"] for each in told.values()} == {"could not be tried", "does not apply", "holds"}
    assert [row for row, each in told.items() if each["verdict"] == "holds"] == ["closed times", "reasons"]
    classes = {each["name"]: each["earned"] for each in json.loads(output)["classes"]}
    assert set(classes.values()) == {"not tried"}
    assert told["read all"]["detail"] == "the check ends with AuthenticationError(credential_refused)"
    assert told["read all"]["meaning"] == " ".join(explain("credential_refused", {}, Language.ENGLISH))


def test_a_web_page_at_the_address_is_no_fault_of_the_connector(
    zest: Callable[..., tuple[int, str, str]], tmp_path: Path
) -> None:
    secret = tmp_path / "secret.json"
    secret.write_text(json.dumps({"token": "a-token"}))
    settings = [text for pair in fhir_bench.SETTINGS.items() for text in ("--set", "=".join(pair))]
    with fhir_bench.scripted_server(lambda _: (200, {"content-type": "text/html"}, b"<html></html>")) as server:
        code, output, _ = zest(
            "certify", "fhir", "--base-url", server.url, "--secret-file", str(secret), *settings, "--write"
        )
    assert code == 1
    assert "does not hold" not in output
    assert "rows could not be tried." in output
    assert " ".join(explain("not_this_protocol", {"protocol": "FHIR R4"}, Language.ENGLISH)) in output


@pytest.mark.parametrize("name", ["proof_none", "proof_key"])
def test_what_cannot_be_read_back_is_cancelled_at_a_real_system_too(name: str, server: RunningPartner) -> None:
    made = ProofBench(name, server)
    bench = real.RealBench(made.partner, (made.url, {}, {}), http_client, datetime.now(UTC))
    bench._people = {Entity.CLIENT: "c1", Entity.STAFF: "s1"}  # a proof's partner has no masters
    trial = Trial(bench, http_client)
    command = bench.visit()
    trial.send(command)
    assert [row["is_cancelled"] for row in made.copies(command)] == [False]  # type: ignore[index]
    bench.heal()
    assert [row["is_cancelled"] for row in made.copies(command)] == [True]  # type: ignore[index]
    assert (bench.written, bench.left) == (1, [])
    lost = bench.visit()
    server.fail("cut_after", record_ids=[str(lost.record_id)])
    trial.send(lost)
    server.heal()
    bench.clean(1)
    if name == "proof_key":  # repeated, it is the same, and can be cancelled
        assert bench.left == []
        assert [row["is_cancelled"] for row in made.copies(lost)] == [True]  # type: ignore[index]
    else:
        assert [(each.record_id, each.is_there, each.reason) for each in bench.left] == [
            (str(lost.record_id), False, "cannot_be_read_back")
        ]
    assert bench.written == 2


@pytest.mark.parametrize(
    ("arguments", "finding"),
    [
        (["nobody"], "No partner is called 'nobody'"),
        (["fhir", "--write"], "give its --base-url"),
        (["fhir", "--base-url", "ftp://x"], "--base-url is not an address"),
        (["fhir", "--base-url", "http://127.0.0.1:1"], "are missing: give them in --set"),
    ],
)
def test_what_was_typed_wrong_is_told(
    zest: Callable[..., tuple[int, str, str]], arguments: Sequence[str], finding: str
) -> None:
    code, _, error = zest("certify", *arguments)
    assert code == 2
    assert finding in error


def test_a_new_partner_is_told_what_is_not_written_yet(
    few_hostile: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partners, "__path__", [*partners.__path__, str(tmp_path)])
    write_partner(tmp_path / "unwritten", "unwritten", "かがやき")
    with benches_of("unwritten")[""]() as bench:
        told = tuple(certify(bench, http_client))
        made = certificate(bench, told)
    assert not made.is_passed
    found = {each.row: each.detail for each in told if each.verdict is Verdict.FAILS}
    assert found["check"].startswith("not written yet: check in client.py: ")
    for row in ("read all", "hostile to readings"):
        assert found[row].startswith("not written yet: read in client.py: ")
    assert [each for each in found.values() if not each.startswith(("not written yet: ", "the bench offers no "))] == []
    assert found["create, change, cancel"] == "the bench offers no visit that can be written"
    assert found["deletes"] == "the bench offers no sizes of readings"


_SHARED = sorted(
    file.stem for file in Path(partners.__path__[0]).glob("*.py") if file.stem != "__init__"
)  # contract, wire and all others


@pytest.mark.parametrize(
    ("name", "finding"),
    [
        ("fhir", "is there already"),
        ("certification", "is there already"),
        ("Kagayaki", "is not a-z, 0-9 and _"),
        ("__init__", "is not a-z, 0-9 and _"),
        *((name, f"{name}.py is a module that all partners share") for name in _SHARED),
        *((name, f"'{name}' is a word of Python's") for name in ("class", "import", "def", "lambda")),
        ("tls_secrets", "TLS_SECRETS is what the contract calls something else"),
        ("k" * 77, "The name has 77 characters, and 30 are the most"),
    ],
)
def test_a_name_that_would_break_something_is_refused_in_a_sentence(
    zest: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch, name: str, finding: str
) -> None:
    monkeypatch.setattr(new_partner, "write_partner", lambda *_: pytest.fail("it is written"))
    code, _, error = zest("new-partner", name)
    assert code == 2
    assert finding in error
    assert len(error.splitlines()) == 1
