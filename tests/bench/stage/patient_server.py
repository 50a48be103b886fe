"""A FHIR server in a process of its own that costs little: its pages are made before it listens, and lie in files.

    GET  /ANYTHING/Patient[?page=N]        a page of the list; each tenant may have a base address of its own
    GET  /ANYTHING/(another type)          an empty list
    POST /list/as-it-was, /list/changed    which of the two lists is shown from now on

It counts no calls, knows no credential and passes over every parameter but its own. `served` starts it.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import httpx

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from stage.patients import bundle, pages

_LISTS = ("as-it-was", "changed")
_NOTHING = bundle([], 0, [{"relation": "self", "url": "?"}])


@dataclass(frozen=True)
class PatientServer:
    """The handle on a running one."""

    url: str
    """Without a slash at its end and without the part that every base address has."""

    def show(self, *, changed: bool) -> None:
        """Which list is shown from now on."""
        httpx.post(f"{self.url}/list/{_LISTS[changed]}", trust_env=False).raise_for_status()


@contextmanager
def served(clients: int, page_size: int) -> Iterator[PatientServer]:
    """A server with so many clients, gone at the end of the block, or with this process."""
    with (
        tempfile.TemporaryDirectory(prefix="zest-patients-") as folder,
        subprocess.Popen(
            [sys.executable, __file__, folder, str(clients), str(page_size)], stdout=subprocess.PIPE, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            port = json.loads(process.stdout.readline())["port"]
            yield PatientServer(f"http://127.0.0.1:{port}")
        finally:
            process.kill()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    folder: Path
    shown = _LISTS[0]

    def do_GET(self) -> None:
        address = urlsplit(self.path)
        if not address.path.endswith("/Patient"):
            self._answer(_NOTHING)
            return
        page = parse_qs(address.query).get("page", ["0"])[0]
        path = self.folder / self.shown / page
        if path.is_file():
            self._answer(path.read_bytes())
        else:
            self._answer(b"", 404)

    def do_POST(self) -> None:
        type(self).shown = self.path.rpartition("/")[2]
        self._answer(b"{}")

    def log_message(self, *_: object) -> None:
        """Nothing: standard error is for what goes wrong."""

    def _answer(self, body: bytes, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("content-type", "application/fhir+json")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


def main() -> None:
    """Make the pages, tell the port, serve until killed."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("clients", type=int)
    parser.add_argument("page_size", type=int)
    chosen = parser.parse_args()
    for name in _LISTS:
        (chosen.folder / name).mkdir()
        made = pages(chosen.clients, chosen.page_size, changed=name == "changed")
        for number, page in enumerate(made):
            (chosen.folder / name / str(number)).write_bytes(page)
    _Handler.folder = chosen.folder
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
    server.daemon_threads = True
    print(json.dumps({"port": server.server_port}), flush=True)
    server.serve_forever()


if __name__ == "__main__":
    main()
