"""The journal is the oracle: in the order of effects, complete, and without anyone's name or token."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sandbox_caller import SYSTEM, Json, appointment, calling, patient

from partners.fhir.sandbox import Limit, SandboxConfig

NAME = "秘密"
TOKEN = "t0ken-of-the-test"


def test_each_call_is_one_row_with_its_effect(tmp_path: Path) -> None:
    with calling(SandboxConfig(journal_file=tmp_path / "journal.jsonl")) as caller:
        caller.update(patient("a", "0042"))
        caller.update(patient("a", "0042"), if_match='W/"1"')
        caller.update(patient("a", "0042"), if_match='W/"1"')
        caller.get("Patient/a")
        caller.delete("Patient/a")
        caller.create(appointment("nobody", "k9"), if_none_exist=f"identifier={SYSTEM}|k9")
        rows = caller.sandbox.journal()
        told = [
            (r["method"], r["path"], r["status"], r["effect"], r["version"], r["identifier"], r["if_match"])
            for r in rows
        ]
        assert told == [
            ("PUT", "/Patient/a", 201, "created", 1, "0042", None),
            ("PUT", "/Patient/a", 200, "updated", 2, "0042", 'W/"1"'),
            ("PUT", "/Patient/a", 412, "none", None, "0042", 'W/"1"'),
            ("GET", "/Patient/a", 200, "none", 2, "0042", None),
            ("DELETE", "/Patient/a", 204, "deleted", 3, "0042", None),
            ("POST", "/Appointment", 422, "none", None, "k9", None),
        ]
        assert [row["seq"] for row in rows] == [1, 2, 3, 4, 5, 6]
        assert caller.sandbox.journal(after=4) == rows[4:]
    kept = [json.loads(line) for line in (tmp_path / "journal.jsonl").read_text().splitlines()]
    assert kept == rows


def test_a_batch_is_one_row_and_one_more_for_each_entry() -> None:
    with calling() as caller:
        entries = [
            {"request": {"method": "PUT", "url": f"Patient/{name}"}, "resource": patient(name)} for name in ("a", "b")
        ]
        caller.bundle("batch", *entries)
        batch, *rows = caller.sandbox.journal()
        assert (batch["path"], batch["within"]) == ("/", None)
        assert [(row["path"], row["within"]) for row in rows] == [("/Patient/a", 1), ("/Patient/b", 1)]


def test_calls_at_once_stand_in_the_order_of_their_effects() -> None:
    with calling() as caller:
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: caller.update(patient("a")), range(40)))
        rows = caller.sandbox.journal()
        assert [row["version"] for row in rows] == list(range(1, 41))
        assert [row["seq"] for row in rows] == list(range(1, 41))


def test_what_a_gate_refused_is_logged_too() -> None:
    with calling(SandboxConfig(token=TOKEN, limit=Limit(1, 60))) as caller:
        caller.get("Patient")
        caller.get("Patient")
        assert [row["status"] for row in caller.sandbox.journal()] == [401, 429]


def test_the_partners_own_changes_are_not_logged() -> None:
    with calling() as caller:
        caller.put("Patient", "a")
        caller.sandbox.delete("Patient", "a")
        assert caller.sandbox.journal() == []


def test_the_journal_holds_no_name_and_no_token(tmp_path: Path) -> None:
    config = SandboxConfig(token=TOKEN, journal_file=tmp_path / "journal.jsonl")
    with calling(config, TOKEN) as caller:
        person: Json = {"name": [{"family": NAME}], "telecom": [{"system": "phone", "value": "03-0000-0042"}]}
        caller.update(patient("a", **person))
        caller.get("Patient", name=NAME, family=NAME, telecom="03-0000-0042", _count=5)
        caller.bundle(
            "batch",
            {"request": {"method": "GET", "url": f"Patient?name={NAME}"}},
            {"request": {"method": "GET", "url": "x"}},
        )
        caller.http.get("Patient", headers={"authorization": f"Bearer {TOKEN}-wrong"})
        shown = json.dumps(caller.sandbox.journal(), ensure_ascii=False)
    for text in (shown, (tmp_path / "journal.jsonl").read_text()):
        for secret in (NAME, TOKEN, "03-0000-0042"):
            assert secret not in text
    assert "_count=5" in shown


def test_the_journals_file_goes_on_after_a_restart_and_is_the_owners_alone(tmp_path: Path) -> None:
    path = tmp_path / "new" / "journal.jsonl"
    config = SandboxConfig(journal_file=path)
    with calling(config) as caller:
        caller.get("Patient")
    with path.open("ab") as file:
        file.write(b'{"seq": 2, "cut sho')
    for last in (2, 3):
        with calling(config) as caller:
            caller.get("Patient")
            assert [row["seq"] for row in caller.sandbox.journal()] == list(range(1, last + 1))
    assert path.stat().st_mode & 0o777 == 0o600
