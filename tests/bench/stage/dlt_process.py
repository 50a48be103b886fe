"""The same reading by dlt, in a process of its own, under an interpreter that has dlt and knows nothing of the project.

A resource that yields the pages' records, merged into PostgreSQL by the strategy `scd2`, which keeps history and sees
what is gone: records as they come, which dlt lays out in a table for each of their lists, or `flat`, the thirteen
fields picked beforehand. All settings are dlt's own, but that it sends nothing about its use to its makers. What dlt
keeps between two readings lies in `folder`.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import Any
from urllib.request import urlopen

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))
os.environ["RUNTIME__DLTHUB_TELEMETRY"] = "false"

import dlt
from stage.cost import measured


def _pages(url: str, *, flat: bool) -> Iterator[list[dict[str, Any]]]:
    address: str | None = f"{url}/Patient?_count=1000"
    while address is not None:
        with urlopen(address) as answer:
            bundle = json.load(answer)
        records = [entry["resource"] for entry in bundle["entry"]]
        yield [_flat(each) for each in records] if flat else records
        following = (each["url"] for each in bundle["link"] if each["relation"] == "next")
        address = next((f"{url}/{each}" for each in following), None)


def _flat(patient: dict[str, Any]) -> dict[str, Any]:
    kanji, kana = patient["name"]
    address = patient["address"][0]
    return {
        "id": patient["id"],
        "version": patient["meta"]["versionId"],
        "number": patient["identifier"][0]["value"],
        "active": patient["active"],
        "family_name": kanji["family"],
        "given_name": kanji["given"][0],
        "family_kana": kana["family"],
        "given_kana": kana["given"][0],
        "phone": patient["telecom"][0]["value"],
        "sex": patient["gender"],
        "birth_date": patient["birthDate"],
        "postal_code": address["postalCode"],
        "address": address["text"],
    }


def main() -> None:
    """Carry the order out: url, folder, dataset, credentials, postmaster, clients."""
    order = json.load(sys.stdin)
    pipeline = dlt.pipeline(
        "bench_land",
        destination=dlt.destinations.postgres(credentials=order["credentials"]),
        dataset_name=order["dataset"],
        pipelines_dir=order["folder"],
    )
    resource = dlt.resource(
        _pages(order["url"], flat=order["flat"]),
        name="client",
        write_disposition={"disposition": "merge", "strategy": "scd2"},
    )
    cost = measured(lambda: pipeline.run(resource).raise_on_failed_jobs(), order["postmaster"])
    read = pipeline.last_trace.last_normalize_info.row_counts["client"]
    assert read == order["clients"], read
    print(json.dumps(cost.told() | {"version": version("dlt")}), flush=True)


if __name__ == "__main__":
    main()
