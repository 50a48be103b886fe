"""The demo: the whole platform on one machine, with four made-up tenants, until both sides are equal.

The work goes through the real daemon and its schedules; the demo only plays the two outer sides, the people
who edit in the product and the partners' servers, and looks on. However it ends, it ends its processes.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

from rich.console import Console
from rich.table import Table

from partners.contract import Connection, Entity
from partners.registry import partner as partner_named
from resources.logins import Login, Logins
from resources.vault import Vault
from zest_pipelines.local import dagster_home, machine
from zest_pipelines.local.data_dir import VARIABLE, DataDir
from zest_pipelines.local.demo_care import DemoOffice
from zest_pipelines.local.demo_checks import Checks, read_checks
from zest_pipelines.local.demo_clinic import crews_of
from zest_pipelines.local.demo_comparison import Comparison
from zest_pipelines.local.demo_invitation import invitation
from zest_pipelines.local.demo_pair import Pair
from zest_pipelines.local.demo_partners import DemoPartner, demo_partner
from zest_pipelines.local.demo_product import JAPAN, Product
from zest_pipelines.local.demo_stage import Stage
from zest_pipelines.local.keeper import Keeper
from zest_pipelines.local.ports import LOOPBACK, require_free_port
from zest_pipelines.local.supervisor import Supervisor
from zest_pipelines.store import tenants
from zest_pipelines.store.database import Database
from zest_pipelines.store.errors import UnknownConnectionError, UnknownTenantError


@dataclass(frozen=True)
class DemoTenant:
    """One of the demo's tenants; all made up."""

    name: str
    partners: Sequence[str]
    """In the order in which they are connected: the first that reads a kind of master makes those."""


TENANTS: Mapping[str, DemoTenant] = {
    "demo-a": DemoTenant("社会福祉法人 ひまわり会", ["fhir"]),
    "demo-b": DemoTenant("株式会社 あおぞら訪問介護", ["fhir"]),
    "demo-clinic": DemoTenant("医療法人 さくら在宅ケア", ["smarthr", "orca"]),
    "demo-care": DemoTenant("有限会社 こもれび介護", ["carecsv"]),
}
"""By id."""

_LIMITS = ("tenant:6000/60s", "tenant:concurrent=4")
_MATCH_ON = {Entity.STAFF: ("number", "family_kana", "given_kana")}
"""Of a partner that does not make the staff."""
_LAND_EVERY = timedelta(hours=1)
_LAND_FILES_EVERY = timedelta(minutes=1)
"""Looking into a folder costs nothing, and the demo waits for the plan."""
_COMMAND_SECONDS = 60
_SHOWN = 10


def run_demo(data_dir: DataDir, *, port: int, once: bool, console: Console) -> bool:
    """Run the demo until a signal, or `once` through; whether all partners ended up equal to their product.

    Raises what `machine.prepare` raises, PortInUseError, SupervisorError, and StopRequestedError for a signal
    before everything was up.
    """
    started_at, folder = time.monotonic(), Path.cwd()
    data_dir.open()
    require_free_port(port)
    with machine.held(data_dir), Supervisor(data_dir.logs, beside=Keeper(data_dir)) as supervisor:
        stage = Stage(supervisor, console, started_at)
        stage.say("Preparing PostgreSQL, its logins and tables")
        logins = machine.prepare(data_dir).logins
        env = dagster_home.environment(data_dir, logins)
        dagster_home.configure(data_dir, env)
        with contextlib.chdir(data_dir.dagster):
            pairs = _start_partners(data_dir, logins, stage)
            ui = f"http://{LOOPBACK}:{port}"
            stage.say(f"Starting Dagster: {ui}")
            for child in dagster_home.services(data_dir, port, env):
                stage.start(child)
            _cycle(pairs, ui, stage)
            results = {pair.tenant: pair.comparison() for pair in pairs}
            checks = read_checks(ui, _partners())
            console.print(_summary(results))
            console.print(_told(checks), soft_wrap=True)
            if not once:
                console.print(invitation(data_dir, ui, next(iter(TENANTS)), folder), soft_wrap=True)
                supervisor.run()
    if once:
        console.file.write(_json(results, checks, time.monotonic() - started_at) + "\n")
    return _all_equal(results)


def _start_partners(data_dir: DataDir, logins: Logins, stage: Stage) -> list[Pair]:
    stage.say("Starting the partners' sandboxes and connecting the tenants to them")
    vault = Vault.from_file(data_dir.vault_key_file)
    pairs = []
    with contextlib.closing(Database(logins)) as database:
        for seed, (tenant, made_up) in enumerate(TENANTS.items(), start=1):
            partners: dict[str, DemoPartner] = {}
            office = None
            for name in made_up.partners:
                folder = data_dir.sandbox / (tenant if name == "fhir" else f"{tenant}-{name}")
                if name == "carecsv":
                    office = _office(data_dir, DemoOffice(tenant, seed, folder), stage)
                else:
                    partners[name] = demo_partner(folder, tenant, name, seed)
                    stage.start(partners[name].child)
            if "orca" in partners:
                partners["smarthr"].put("crews", crews_of(partners["orca"].ask("state")[0]["staff"]))
            for number, partner in enumerate(partners.values()):
                is_new = _connect(database, vault, partner)
                if is_new and number + 1 < len(partners):  # who comes after it is linked to its masters
                    _zest(data_dir, ["sync", tenant, partner.name], stage)
            if office is not None:
                _connect(database, vault, office)
            pairs.append(Pair(tenant, Product(logins, tenant), partners, office, logins))
    return pairs


def _office(data_dir: DataDir, office: DemoOffice, stage: Stage) -> DemoOffice:
    """With its first files."""
    if (words := office.open()) is not None:
        _zest(data_dir, words, stage)
    return office


def _connect(database: Database, vault: Vault, partner: DemoPartner | DemoOffice) -> bool:
    """Add tenant and connection, and whether that was new; left as it is where it points to the partner already."""
    tenant, declared = partner.tenant, partner_named(partner.name)
    with database.transaction(Login.OPERATOR, tenant) as tx:
        try:
            if tenants.connection(tx, tenant, partner.name).connection.base_url == partner.url:
                return False
        except UnknownTenantError:
            tenants.add(tx, tenant, TENANTS[tenant].name)
        except UnknownConnectionError:
            pass
        defaults = {each.key: each.default for each in declared.settings if each.default is not None}
        is_first = TENANTS[tenant].partners[0] == partner.name
        tenants.connect(
            tx,
            Connection(tenant, partner.name, partner.url, {**defaults, **partner.settings}),
            timing="minute",
            limits=_LIMITS if declared.writes else None,
            land_every=_LAND_FILES_EVERY if partner.name == "carecsv" else _LAND_EVERY,
            ciphertext=vault.encrypt(partner.secret, tenant=tenant, partner=partner.name),
            match_on={} if is_first else _MATCH_ON,
            reads=declared.reads,
        )
    return True


def _zest(data_dir: DataDir, words: Sequence[str], stage: Stage) -> None:
    """Run a command now, as an operator would. If it fails, the comparison tells."""
    stage.say(f"zest {' '.join(words)}")
    argv = [sys.executable, "-m", "zest_pipelines.cli", *words]
    env, place = {**os.environ, VARIABLE: str(data_dir.path)}, data_dir.logs / f"{'-'.join(words[:2])}.log"
    with place.open("wb") as log, contextlib.suppress(subprocess.TimeoutExpired):
        subprocess.run(  # noqa: S603  # our own command
            argv, stdin=subprocess.DEVNULL, stdout=log, stderr=log, timeout=_COMMAND_SECONDS, check=False, env=env
        )


def _cycle(pairs: Sequence[Pair], ui: str, stage: Stage) -> None:
    """In, then out twice, and a plan. It ends at what is not equal in time; the comparison tells what that is."""
    today = datetime.now(JAPAN).date()
    is_equal = stage.wait(
        "Dagster lands, compares and applies clients and staff",
        lambda: sum(pair.differing_masters() for pair in pairs),
    )
    for what, act in (
        ("The product has planned visits; Dagster delivers those that are confirmed", Product.plan),
        ("The product has moved, cancelled, confirmed and recorded visits; Dagster delivers", Product.edit),
    ):
        if not is_equal:
            return
        for pair in pairs:
            act(pair.product, today)
            pair.agree()
        is_equal = stage.wait(what, lambda: sum(pair.differing() for pair in pairs))
    if is_equal:
        what = "The care manager has planned what is confirmed; Dagster lands the plan and compares it"
        stage.wait(what, lambda: sum(pair.differing_plans() for pair in pairs))
    stage.wait("Dagster evaluates its checks", lambda: _not_green(read_checks(ui, _partners())))


def _not_green(checks: Checks) -> int:
    """What differed on the way is told as equal a moment after it is."""
    return checks.missing + len(checks.failed)


def _partners() -> dict[str, Sequence[str]]:
    return {tenant: made_up.partners for tenant, made_up in TENANTS.items()}


def _summary(results: Mapping[str, Comparison]) -> Table:
    table = Table(title="Product and partner, compared field by field", title_justify="left")
    for column in (
        "tenant",
        "clients",
        "staff",
        "visits",
        "booked",
        "cancelled",
        "encounters",
        "differences",
    ):
        table.add_column(column, justify="left" if column == "tenant" else "right")
    for tenant, result in results.items():
        numbers = (str(value) for value in _counts(result).values())
        table.add_row(f"{tenant} {TENANTS[tenant].name}", *numbers, style="" if not result.differences else "bold red")
    for tenant, result in results.items():
        for each in result.differences[:_SHOWN]:
            table.add_row(tenant, f"{each.kind} {each.record}: {each.field}")
    return table


def _counts(result: Comparison) -> dict[str, int]:
    return {
        "clients": result.clients,
        "staff": result.staff,
        "visits": result.visits,
        "booked": result.booked,
        "cancelled": result.cancelled,
        "encounters": result.encounters,
        "differences": len(result.differences),
    }


def _told(checks: Checks) -> str:
    failed = f", {len(checks.failed)} failed: {'; '.join(checks.failed)}" if checks.failed else ""
    return f"Asset checks: {checks.passed} passed{failed}"


def _all_equal(results: Mapping[str, Comparison]) -> bool:
    return not any(result.differences for result in results.values())


def _json(results: Mapping[str, Comparison], checks: Checks, seconds: float) -> str:
    return json.dumps(
        {
            "equal": _all_equal(results),
            "tenants": {tenant: _counts(result) for tenant, result in results.items()},
            "checks": {"passed": checks.passed, "failed": len(checks.failed), "missing": checks.missing},
            "seconds": round(seconds, 1),
        }
    )
