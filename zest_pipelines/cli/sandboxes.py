"""`zest sandbox`: a partner's stand-in as a process of its own.

Those with options of their own are functions here; all others are started as their bench does it.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

import partners
from zest_pipelines.cli import partner_code
from zest_pipelines.cli.options import InputError, JsonOption
from zest_pipelines.cli.secret_files import read_secret

if TYPE_CHECKING:
    from partners.fhir.sandbox import SandboxConfig


def fhir(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides which made-up people there are.")] = 1,
    clients: Annotated[int, typer.Option(min=0, help="How many clients to make up.")] = 200,
    staff: Annotated[int, typer.Option(min=0, help="How many members of staff to make up.")] = 40,
    token_file: Annotated[
        str | None,
        typer.Option(help='JSON file {"token": "..."} with what callers must show; - for standard input.'),
    ] = None,
    state_file: Annotated[Path | None, typer.Option(help="Keeps every effect: a restart goes on.")] = None,
    journal_file: Annotated[Path | None, typer.Option(help="Keeps the request log.")] = None,
    fault: Annotated[
        list[str] | None,
        typer.Option(metavar="JSON", help='{"kind": "status", "status": 503, "times": 3}; repeatable.'),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any option of SandboxConfig; repeatable."),
    ] = None,
    json_: JsonOption = False,
) -> None:
    """A FHIR R4 server with made-up Japanese people, until Ctrl-C. It prints its address once it answers."""
    from partners.fhir.sandbox import PortInUseError, StateFileError, run

    values = {key: _value(text) for key, text in _pairs(set_ or [])} | {
        "port": port,
        "seed": seed,
        "clients": clients,
        "staff": staff,
        "token": None if token_file is None else _token(token_file),
        "state_file": state_file,
        "journal_file": journal_file,
        "faults": [_json(text, "--fault") for text in fault or []],
    }
    config = _config(values)
    try:
        run(config, lambda url: _tell_address(url, config, as_json=json_))
    except PortInUseError as error:
        raise InputError(f"{error} with --port") from None
    except StateFileError as error:
        raise InputError(f"{error}: give another --state-file, or remove it to start anew") from None


def orca(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides which made-up people there are.")] = 1,
    clients: Annotated[int, typer.Option(min=0, help="How many patients to make up.")] = 200,
    staff: Annotated[int, typer.Option(min=0, help="How many doctors and other staff to make up.")] = 40,
    credential_file: Annotated[
        str | None,
        typer.Option(help='JSON file {"user": "...", "password": "..."} that callers must show; - for standard input.'),
    ] = None,
    prefix: Annotated[str, typer.Option(help="Before each path: /api as WebORCA has it.")] = "",
    state_file: Annotated[Path | None, typer.Option(help="Keeps every effect: a restart goes on.")] = None,
    journal_file: Annotated[Path | None, typer.Option(help="Keeps the request log.")] = None,
) -> None:
    """An ORCA with made-up Japanese people, until Ctrl-C. It prints its address once it answers."""
    from partners.orca.sandbox import OrcaConfig, PortInUseError, run

    user, password = ("", "") if credential_file is None else _credential(credential_file)
    config = OrcaConfig(
        port=port,
        seed=seed,
        clients=clients,
        staff=staff,
        prefix=prefix,
        state_file=state_file,
        journal_file=journal_file,
        user=user,
        password=password,
    )
    try:
        run(config, _tell_url)
    except PortInUseError as error:
        raise InputError(f"{error} with --port") from None


def smarthr(
    port: Annotated[int, typer.Option(min=0, max=65535, help="Port to listen on; 0: a free one.")] = 0,
    seed: Annotated[int, typer.Option(help="Decides which made-up people there are.")] = 1,
    staff: Annotated[int, typer.Option(min=0, help="How many crews to make up.")] = 40,
    token_file: Annotated[
        str | None,
        typer.Option(help='JSON file {"token": "..."} with what callers must show; - for standard input.'),
    ] = None,
    state_file: Annotated[Path | None, typer.Option(help="Keeps the crews: a restart goes on.")] = None,
) -> None:
    """A SmartHR with made-up Japanese people, until Ctrl-C. It prints its address once it answers."""
    from partners.smarthr.sandbox import PortInUseError, SmartHrConfig, run

    token = "" if token_file is None else _token(token_file)
    try:
        run(SmartHrConfig(port=port, seed=seed, staff=staff, token=token, state_file=state_file), _tell_url)
    except PortInUseError as error:
        raise InputError(f"{error} with --port") from None


def carecsv(
    folder: Annotated[
        Path,
        typer.Argument(
            help="The folder of the exchange; the file is put into `in` there.", exists=True, file_okay=False
        ),
    ],
    office: Annotated[str, typer.Option(help="Code of the office that they are sent to, ten digits.")] = "1370000002",
    seed: Annotated[int, typer.Option(help="Decides which made-up people there are.")] = 1,
    clients: Annotated[int, typer.Option(min=1, help="How many clients the file tells of.")] = 200,
    first: Annotated[int, typer.Option(min=1, help="The number of the first of them.")] = 1,
    plans: Annotated[
        datetime | None,
        typer.Option(formats=["%Y%m"], help="A month, such as 202612: puts what is planned in it (UPPLAN) as well."),
    ] = None,
) -> None:
    """A care manager's office: puts one file (UPHOSOKU) of made-up clients into the folder, and prints its name."""
    from partners.carecsv.sandbox.office import CareOffice, made_up, made_up_plan

    if not (len(office) == 10 and office.isascii() and office.isdecimal()):
        raise InputError("--office is a code of ten digits, such as 1370000002")
    rows = [made_up(seed, number) for number in range(first, first + clients)]
    sender = CareOffice(folder, office)
    _tell_url(sender.send(rows))
    if plans is not None:
        lines = [each for number in range(first, first + clients) for each in made_up_plan(seed, number, plans, office)]
        _tell_url(sender.send_plans(lines, f"{plans:%Y%m}"))


def of_others(own: Collection[str]) -> Iterator[tuple[str, str, Callable[..., None]]]:
    """(name, help, command) for each partner whose folder has a bench and that has none of its `own`; nothing is
    imported for that."""
    found = {file.parts[-3] for root in partners.__path__ for file in Path(root).glob("*/sandbox/bench.py")}
    for name in sorted(found.difference(own)):
        told = f"The sandbox of {name} as its bench starts it, until Ctrl-C. It prints its address once it answers."
        yield name, told, _as_its_bench_does(name)


def _as_its_bench_does(name: str) -> Callable[..., None]:
    def command(
        people: Annotated[int, typer.Option(min=1, help="How many of each kind of master it has.")] = 10,
        json_: Annotated[
            bool, typer.Option("--json", help="Print JSON: address, made-up credential and settings.")
        ] = False,
    ) -> None:
        closing = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: closing.set())
        with partner_code.running(name, partner_code.benches(name)[""]) as bench:
            for entity in bench.partner.masters:
                bench.hold(entity, people)
            told = {"url": bench.url, "secret": dict(bench.secret), "settings": dict(bench.settings)}
            _tell_url(json.dumps(told, ensure_ascii=False) if json_ else bench.url)
            closing.wait()

    return command


def _config(values: dict[str, Any]) -> SandboxConfig:
    """The checked options. InputError names those that are wrong and quotes no value."""
    from pydantic import TypeAdapter, ValidationError

    from partners.fhir.sandbox import SandboxConfig

    if unknown := sorted(set(values) - set(SandboxConfig.__dataclass_fields__)):
        known = ", ".join(sorted(set(SandboxConfig.__dataclass_fields__) - set(values)))
        raise InputError(f"The sandbox has no option {', '.join(unknown)}: --set knows {known}")
    try:
        return TypeAdapter(SandboxConfig).validate_python(values)
    except ValidationError as error:
        wrong = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors(include_input=False))
        raise InputError(f"The sandbox cannot be started with these options: {wrong}") from None


def _tell_address(url: str, config: SandboxConfig, *, as_json: bool) -> None:
    told = {
        "url": url,
        "patient_identifier_system": config.patient_identifier_system,
        "staff_identifier_system": config.staff_identifier_system,
    }
    _tell_url(json.dumps(told) if as_json else url)


def _tell_url(told: str) -> None:
    sys.stdout.write(told + "\n")
    sys.stdout.flush()


def _token(source: str) -> str:
    given = read_secret(source)
    if not isinstance(given, dict) or not isinstance(given.get("token"), str) or not given["token"]:
        raise InputError('The token file is not as it should be: write {"token": "..."}')
    return str(given["token"])


def _credential(source: str) -> tuple[str, str]:
    given = read_secret(source)
    if not isinstance(given, dict) or not all(isinstance(given.get(key), str) for key in ("user", "password")):
        raise InputError('The credential file is not as it should be: write {"user": "...", "password": "..."}')
    return given["user"], given["password"]


def _pairs(texts: Sequence[str]) -> list[tuple[str, str]]:
    split = [text.partition("=") for text in texts]
    if wrong := next((key for key, equals, _ in split if not (key and equals)), None):
        raise InputError(f"--set {wrong} has no value: write --set KEY=VALUE")
    return [(key, value) for key, _, value in split]


def _value(text: str) -> object:
    """JSON where it is some, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def _json(text: str, option: str) -> object:
    try:
        return json.loads(text)
    except ValueError:
        raise InputError(f'{option} is not JSON: write {option} \'{{"kind": "status"}}\'') from None
