"""What the tests of care CSV share: a folder, an office that fills it, connectors."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import patch

from fhir_bench import NotingGate

from partners.carecsv import partner as declaration
from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import RECEIVER, CareOffice, made_up
from partners.contract import Connection, Connector
from resources.http import Http


@contextmanager
def connected(office: CareOffice, gate: Any = None, *, still: float = 0.0, **settings: str) -> Iterator[Connector]:
    """A connector to the office's folder; `still`: seconds for which nobody must have touched a file."""
    connection = Connection("hidamari", "carecsv", office.folder.as_uri(), {"office": RECEIVER} | settings)
    with patch.object(declaration, "STILL_SECONDS", still):
        connector = CARECSV.open(connection, {}, Http().client(), gate or NotingGate())
    try:
        yield connector
    finally:
        connector.close()


@contextmanager
def counted_office() -> Iterator[tuple[CareOffice, Callable[[], int]]]:
    """An office that has sent a file, and how often its folder was looked into or a file of it opened."""
    looks: list[str] = []
    list_folder, open_file = os.scandir, Path.open

    def scandir(path: Any) -> Any:
        looks.append("list")
        return list_folder(path)

    def opened(path: Path, *how: Any) -> Any:
        looks.append("open")
        return open_file(path, *how)

    with tempfile.TemporaryDirectory() as folder:
        office = CareOffice(Path(folder))
        office.send([made_up(1, number) for number in range(1, 4)])
        with patch("partners.carecsv.folder.os.scandir", scandir), patch("partners.carecsv.folder.Path.open", opened):
            yield office, lambda: len(looks)
