"""What is typed wrong ends in one sentence and exit code 2, before anything is touched."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from datetime import timedelta
from pathlib import Path

import pytest

from partners.registry import PARTNERS
from resources.logins import Login
from zest_pipelines.cli import run
from zest_pipelines.cli.connections import checked_interval, checked_secret, checked_settings, checked_url
from zest_pipelines.cli.options import InputError, remember_data_dir
from zest_pipelines.core.reference import ALPHABET

SETTINGS = ["--set", "patient_identifier_system=urn:p", "--set", "staff_identifier_system=urn:s"]
RECORD = "7d444840-9dc0-11d1-b245-5ffdce74fad2"
READ = ["connect", "sakura", "smarthr", "--base-url", "https://kaisha.smarthr.jp"]
CONNECT = ["connect", "sakura", "fhir", "--base-url", "http://127.0.0.1:9", "--timing", "minute"]


@pytest.fixture(autouse=True)
def _own_data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEST_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.delenv("ZEST_DATABASE_URL", raising=False)
    remember_data_dir(None)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        (["tenant", "add", "Sakura Care", "--name", "n"], "tenant id"),
        (["tenant", "add", "sakura", "--name", " "], "--name"),
        (["check", "sakura", "karte"], "fhir"),
        (["check", "sa,kura", "fhir"], "tenant id"),
        ([*CONNECT, *SETTINGS, "--limit", "600 a minute"], "tenant:10000/1d@09:00"),
        ([*CONNECT, *SETTINGS, "--limit", "endpoint=visits:5/1s"], "patients, staff, appointments, encounters"),
        ([*CONNECT, *SETTINGS, "--limit", "tenant:6/1s", "--limit", "tenant:5/1s"], "leave one of them out"),
        ([*CONNECT, *SETTINGS, "--set", "colour=red"], "colour"),
        ([*CONNECT, *SETTINGS, "--set", "novalue"], "--set"),
        ([*CONNECT, *SETTINGS, "--closed", "at night"], "'02:00-05:00'"),
        ([*CONNECT, *SETTINGS, "--closed", "06:00-18:00", "--closed", "17:00-07:00"], "leave some time open"),
        ([*CONNECT], "patient_identifier_system"),
        ([*CONNECT, *SETTINGS, "--land-every", "8d"], "--land-every"),
        ([*CONNECT, *SETTINGS, "--deliver-within", "30 minutes"], "--deliver-within '30 minutes'"),
        ([*CONNECT, *SETTINGS, "--deliver-within", "0m"], "--deliver-within '0m'"),
        ([*CONNECT, *SETTINGS, "--secret-file", "/nowhere/token.json"], "/nowhere/token.json"),
        (["connect", "sakura", "fhir", "--base-url", "sftp://host", "--timing", "week", *SETTINGS], "--base-url"),
        ([*CONNECT[:-2], *SETTINGS], "--timing week"),
        ([*READ, "--timing", "week"], "SmartHR is only read and nothing is sent to it: leave out --timing"),
        (
            [*READ, "--closed", "sun", "--on-conflict", "overwrite", "--deliver-within", "1h"],
            "--closed, --deliver-within, --on-conflict",
        ),
        ([*READ, "--identity", "client=match"], "staff=match"),
        ([*READ, "--secret-file", "/nowhere/token.json"], "/nowhere/token.json"),
        ([*CONNECT, *SETTINGS, "--identity", "guess"], "client=match"),
        ([*CONNECT, *SETTINGS, "--identity", "visit=match"], "client=match"),
        ([*CONNECT, *SETTINGS, "--identity", "client=match"], "--identity staff=create or match"),
        ([*CONNECT, *SETTINGS, "--match-on", "birth_date,family_kana,given_kana"], "--identity client=match"),
        (
            [*CONNECT, *SETTINGS, "--identity", "match", "--match-on", "family_kana,given_kana"],
            "add birth_date or number",
        ),
        ([*CONNECT, *SETTINGS, "--identity", "match", "--match-on", "shoe_size"], "shoe_size"),
        ([*CONNECT, *SETTINGS, "--identity", "match", "--match-on", " , "], "names no field"),
        (["approve", "sakura", "fhir"], "zest init"),
        (["approve", "sakura", "karte"], "fhir"),
        (["identities", "sakura"], "zest init"),
        (["identities", "sakura", "--same"], "--settle ID"),
        (["identities", "sakura", "--settle", "42"], "--same, --new and --link RECORD"),
        (["identities", "sakura", "--settle", "42", "--same", "--new"], "--same, --new and --link RECORD"),
        (["identities", "sakura", "--settle", "佐藤", "--same"], "landed:42"),
        (["status"], "zest init"),
        (["down"], "zest init"),
        (["up"], "zest init"),
        (["sync", "sakura", "fhir"], "zest init"),
        (["push-week", "sakura", "fhir"], "zest init"),
        (["push-week", "sakura", "fhir", "2026-11-24"], "2026-11-23"),
        (["push-week", "sakura", "fhir", "next week"], "is not a day"),
        (["push-week", "sakura", "fhir", "2020-01-06"], "2020-01-06"),
        (["push-week", "sakura", "karte"], "fhir"),
        (["push-week", "sakura", "smarthr"], "SmartHR is only read, so there is nothing to push"),
        (["release", "sakura", "smarthr"], "SmartHR is only read"),
        (["abandon", "sakura", "smarthr", "--reason", "gone", "--all"], "SmartHR is only read"),
        (["adopt", "sakura", "smarthr", "visit", RECORD, "--partner-id", "a", "--reason", "seen"], "only read"),
        (["pause", "sakura", "fhir", "--reason", "moving house"], "zest init"),
        (["resume", "sakura", "fhir"], "zest init"),
        (["release", "sakura", "fhir", "visit"], "zest init"),
        (["release", "sa,kura", "fhir"], "tenant id"),
        (["abandon", "sakura", "fhir", "--reason", "gone", "--all"], "zest init"),
        (["abandon", "sakura", "fhir", "--reason", "gone"], "--all"),
        (["abandon", "sakura", "fhir", "visit", "--reason", "gone"], "Which visit"),
        (["abandon", "sakura", "fhir", "visit", RECORD, "--reason", "gone", "--all"], "--all"),
        (["adopt", "sakura", "fhir", "visit", RECORD, "--partner-id", "a-1", "--reason", "seen"], "zest init"),
        (["adopt", "sakura", "fhir", "visit", RECORD, "--partner-id", " ", "--reason", "seen"], "--partner-id"),
        (["request", "sakura", RECORD], "zest init"),
        (["bundle", "sakura", RECORD], "zest init"),
        (["bundle", "sakura", "4c7d-fghj"], "zest init"),
        (["bundle", "sakura", "4C7DFGHO"], "neither a record's id nor a number"),
        (["as-of", "sakura", "fhir", "client", "--at", "2026-11-01T09:00"], "zest init"),
        (["as-of", "sakura", "fhir", "client", "--at", "yesterday"], "2026-11-01T09:00"),
        (["as-of", "sakura", "fhir", "client", "--at", "2999-01-01"], "still to come"),
        (["as-of", "sakura", "karte", "client", "--at", "2026-11-01"], "fhir"),
        (["diff", "sakura", "fhir", "client", "--preview"], "zest init"),
        (["diff", "sakura", "fhir", "client"], "zest sync sakura fhir"),
        (["diff", "sakura", "fhir", "client", "--preview", "--set", "colour=red"], "patient_identifier_system"),
        (["archive", "2026-08"], "zest init"),
        (["archive", "August"], "2026-08"),
        *((["db-url", "--login", login.removeprefix("zest_")], "zest init") for login in Login),
        (["sandbox", "fhir", "--set", "colour=red"], "colour"),
        (["sandbox", "fhir", "--set", "stale_status=500"], "stale_status"),
        (["sandbox", "fhir", "--fault", "{"], "--fault"),
        (["sandbox", "orca", "--credential-file", "/nowhere/to/be/found"], "/nowhere/to/be/found"),
        (["sandbox", "smarthr", "--token-file", "/nowhere/to/be/found"], "/nowhere/to/be/found"),
    ],
)
def test_wrong_input_ends_in_one_sentence_that_names_it_and_touches_nothing(
    arguments: list[str], word: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    told = capfd.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert word in told.err
    assert not (tmp_path / "data").exists()


@pytest.mark.parametrize(
    "arguments",
    [
        ["nonsense"],
        [*CONNECT[:-1], "hourly"],
        ["explain", "a", "visit", "no-uuid"],
        ["pause", "sakura", "fhir"],
        ["release", "sakura", "fhir", "client"],
        ["approve", "sakura", "fhir", "visit"],
        ["identities", "sakura", "--settle", "42", "--link", "12"],
        ["abandon", "sakura", "fhir", "visit", RECORD],
        ["adopt", "sakura", "fhir", "visit", RECORD, "--reason", "seen"],
        ["request", "sakura", "12"],
        ["as-of", "sakura", "fhir", "client"],
        ["as-of", "sakura", "fhir", "visit", "--at", "2026-11-01T09:00"],
        [*CONNECT, *SETTINGS, "--on-conflict", "ask"],
        [*CONNECT, *SETTINGS, "--weight", "0"],
        [*CONNECT, *SETTINGS, "--weight", "101"],
    ],
)
def test_wrong_usage_is_exit_code_2_without_a_traceback(
    arguments: list[str], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run(arguments) == 2
    assert "Traceback" not in capfd.readouterr().err


def test_the_data_directory_may_stand_before_or_after_the_command(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before, after = tmp_path / "before", tmp_path / "after"
    run(["--data-dir", str(before), "status"])
    run(["status", "--data-dir", str(after)])
    run(["--data-dir", str(before), "status", "--data-dir", str(after)])
    first, second, third = capfd.readouterr().err.splitlines()
    assert str(before) in first
    assert str(after) in second
    assert str(after) in third


def test_an_unforeseen_error_leaves_a_reference_and_a_private_log_without_its_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    logs = tmp_path / "data" / "logs"
    logs.mkdir(parents=True)

    def fail(*_: object) -> None:
        raise RuntimeError("山" + "田")  # in two parts: the source line is logged

    monkeypatch.setattr("zest_pipelines.local.machine.attach", fail)
    assert run(["status"]) == 2
    told = capfd.readouterr().err
    log = logs / "cli.log"
    number = told.split("reference number ")[1][:8]
    assert set(number) <= set(ALPHABET)
    assert number in log.read_text()
    assert "RuntimeError" in log.read_text()
    assert "山田" not in told + log.read_text()
    assert "Traceback" not in told
    assert stat.S_IMODE(log.stat().st_mode) == 0o600


def test_help_imports_neither_dagster_nor_a_database_driver() -> None:
    heavy = "dagster", "sqlalchemy", "psycopg", "httpx", "pydantic", "uvicorn"
    code = f"import sys, zest_pipelines.cli.app; print([name for name in {heavy!r} if name in sys.modules])"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "text",
    ["", "host", "ftp://h", "http://", "http://h:99999", "http://u:p@h/", "http://h/?a=1", "http://h/#a"],
)
def test_an_address_that_no_partner_can_have_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        checked_url(text)


def test_an_address_loses_only_the_slash_at_its_end() -> None:
    assert checked_url(" https://emr.example.jp:8443/fhir/r4/ ") == "https://emr.example.jp:8443/fhir/r4"


def test_settings_are_completed_by_the_partners_defaults() -> None:
    told = checked_settings(PARTNERS["fhir"], ["patient_identifier_system=a=b", "staff_identifier_system=s"])
    assert told["patient_identifier_system"] == "a=b"
    assert told["visit_identifier_system"] == "urn:zest:visit"


@pytest.mark.parametrize("given", [[], "text", {"token": 1}, {"other": "x"}])
def test_a_credential_of_another_shape_is_refused_without_quoting_it(given: object) -> None:
    with pytest.raises(InputError) as refused:
        checked_secret(PARTNERS["fhir"], given)
    assert "'x'" not in str(refused.value)


def test_a_key_may_stand_in_the_secret_file_as_an_object() -> None:
    secret = checked_secret(PARTNERS["fhir"], {"client_id": "us", "private_key": {"kty": "EC"}})
    assert (secret["private_key"], secret["token"]) == ('{"kty": "EC"}', "")


@pytest.mark.parametrize(
    ("secret", "batch_size", "words"),
    [
        ({"client_id": "us", "private_key": "not-a-key-nor-a-token"}, "1", "RSA from 2048 bits or P-384"),
        ({"client_id": "us"}, "1", "private_key"),
        ({"token": "not-a-key-nor-a-token"}, "many", "batch_size"),
    ],
)
def test_what_cannot_even_be_used_to_call_is_refused_before_it_is_kept(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], secret: dict[str, str], batch_size: str, words: str
) -> None:
    file = tmp_path / "secret.json"
    file.write_text(json.dumps(secret))
    code = run([*CONNECT, *SETTINGS, "--set", f"batch_size={batch_size}", "--secret-file", str(file)])
    told = capsys.readouterr().err
    assert code == 2
    assert words in told
    assert "not-a-key-nor-a-token" not in told


@pytest.mark.parametrize(("text", "minutes"), [("1m", 1), ("60m", 60), ("6h", 360), ("7d", 7 * 24 * 60)])
def test_an_interval_is_minutes_hours_or_days(text: str, minutes: int) -> None:
    assert checked_interval("--land-every", text) == timedelta(minutes=minutes)


@pytest.mark.parametrize("text", ["0m", "30s", "1", "8d", "169h", "-1h", "1.5h", ""])
def test_an_interval_outside_of_a_minute_to_a_week_is_refused(text: str) -> None:
    with pytest.raises(InputError):
        checked_interval("--land-every", text)
