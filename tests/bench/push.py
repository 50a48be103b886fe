"""Calls a second through the whole way out, beside those of bare HTTP clients.

An installation of its own in a temporary folder: embedded PostgreSQL, and a partner in a process of its own that
answers each write 30 ms after its effect. No limit is set, and 50 calls may be in flight from one process. In turns,
one after the other, over the same number of new visits:

    engine  a push: claims, lease, intents, calls, results
    bare    50 threads with an httpx.Client each, over one SSLContext, that post the same bodies and keep nothing

The bar: the engine makes at least 0.6 times the calls a second of the bare clients, in the median of the rounds.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Any
from uuid import UUID, uuid4

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "proof"))

from partner import PROOFS, Office, connect
from partner_process import RunningPartner, running_partner

from resources.http import tls_context
from zest_pipelines.flows.accumulate import accumulate
from zest_pipelines.flows.push import push
from zest_pipelines.local import machine
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.store.database import Database

BAR = 0.6
LATENCY = 0.03
IN_FLIGHT = 50
_BOX = 600.0


@dataclass(frozen=True)
class Round:
    """One round of one kind."""

    calls: int
    seconds: float
    cpu_seconds: float
    """Of this process alone: neither the partner's nor the database server's."""

    @property
    def calls_per_second(self) -> float:
        """By the wall clock."""
        return self.calls / self.seconds


def main() -> None:
    """Run it and print the figures as JSON; exit code 1 if the bar was missed."""
    parser = argparse.ArgumentParser(prog="zest bench push", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--visits", type=int, default=2000, help="in one round (default 2000)")
    parser.add_argument("--rounds", type=int, default=5, help="of each kind (default 5)")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="zest-push-") as folder, _stage(Path(folder)) as (office, partner):
        engine, bare = _alternating(office, partner, chosen.visits, chosen.rounds)
    figures = figures_of(engine, bare)
    print(json.dumps(figures, indent=2))
    sys.exit(0 if figures["within_the_bar"] else 1)


def figures_of(engine: Sequence[Round], bare: Sequence[Round]) -> dict[str, Any]:
    """What is told of the rounds, each of the engine beside the bare one that followed it."""
    ratios = [one.calls_per_second / other.calls_per_second for one, other in zip(engine, bare, strict=True)]
    ratio = median(ratios)
    return {
        "engine": _figures(engine),
        "bare": _figures(bare),
        "ratio": round(ratio, 3),
        "ratios": [round(each, 3) for each in ratios],
        "bar": BAR,
        "within_the_bar": ratio >= BAR,
        "in_flight": IN_FLIGHT,
        "latency_ms": LATENCY * 1000,
        "load": round(os.getloadavg()[0], 1),
        "cores": os.cpu_count(),
    }


def _figures(rounds: Sequence[Round]) -> dict[str, Any]:
    calls = sum(each.calls for each in rounds)
    return {
        "calls": calls,
        "calls_per_second": round(median(each.calls_per_second for each in rounds)),
        "cpu_ms_a_call": round(1000 * sum(each.cpu_seconds for each in rounds) / calls, 2),
    }


@contextmanager
def _stage(folder: Path) -> Iterator[tuple[Office, RunningPartner]]:
    """A tenant at a partner that takes keys, which costs the engine no look at the copy before it writes."""
    with ExitStack() as stack:
        prepared = machine.prepare(DataDir(folder / "data"))
        stack.callback(machine.stop, prepared.data_dir)
        partner = stack.enter_context(running_partner(LATENCY))
        database = Database(prepared.logins)
        stack.callback(database.close)
        office = connect(
            database,
            "sakura",
            replace(PROOFS["proof_key"], parallel=IN_FLIGHT),
            partner.url,
            limits=(),
            call_seconds=20.0,
        )
        yield office, partner


def _alternating(office: Office, partner: RunningPartner, visits: int, rounds: int) -> tuple[list[Round], list[Round]]:
    engine, bare = [], []
    for number in range(rounds + 1):
        office.add_visits(visits)
        accumulate(office.services, office.partner, office.name)
        pushed = _measured(lambda: _pushed(office))
        posted = _measured(lambda: _posted(partner.url, [uuid4() for _ in range(visits)]))
        assert (pushed.calls, posted.calls) == (visits, visits), (pushed, posted)
        print(
            f"round {number}: {pushed.calls_per_second:.0f} and {posted.calls_per_second:.0f} calls a second",
            file=sys.stderr,
            flush=True,
        )
        if number:  # the first one warms both up
            engine.append(pushed)
            bare.append(posted)
    return engine, bare


def _measured(deliver: Callable[[], int]) -> Round:
    started, cpu = time.monotonic(), time.process_time()
    calls = deliver()
    return Round(calls, time.monotonic() - started, time.process_time() - cpu)


def _pushed(office: Office) -> int:
    report = push(office.services, office.partner, office.name, _BOX)
    assert report.delivered == report.calls > 0, report
    return report.calls


def _posted(url: str, records: Sequence[UUID]) -> int:
    queue = iter(records)
    with ThreadPoolExecutor(IN_FLIGHT) as threads:
        shares = [list(islice(queue, -(-len(records) // IN_FLIGHT))) for _ in range(IN_FLIGHT)]
        return sum(threads.map(lambda share: _post_all(url, share), shares))


def _post_all(url: str, records: Sequence[UUID]) -> int:
    """As the partner's connector asks for a new visit; how many were answered."""
    with httpx.Client(verify=tls_context(None), trust_env=False) as client:
        for record in records:
            key = f"visit:{record}:1"
            answer = client.post(f"{url}/key/bare/visits", headers={"idempotency-key": key}, content=_body(record))
            answer.raise_for_status()
            answer.json()
    return len(records)


def _body(record: UUID) -> bytes:
    content = {
        "starts_at": "2026-12-01T00:00:00+00:00",
        "ends_at": "2026-12-01T01:00:00+00:00",
        "service_code": "131111",
        "note": "1",
        "client": "c1",
        "staff": "s1",
    }
    return json.dumps({"record_id": str(record), "version": 1, "cancelled": False, "content": content}).encode()


if __name__ == "__main__":
    main()
