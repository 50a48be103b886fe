"""Dagster's processes on one machine: their folder, their environment, their commands.

One code server holds our definitions for webserver and daemon, and its children are the runs' workers. It listens on
a unix socket: its protocol asks nobody who they are, and two installations cannot get into each other's way.

Every Dagster process loads `.env` from the folder it runs in and lets it win over the environment. A clone's
`.env` may speak of another data directory, so `up` and `demo` work in Dagster's home, where there is none.
"""

from __future__ import annotations

import os
import socket
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

import yaml

from resources.logins import Logins
from resources.private_files import write_private
from zest_pipelines.local import data_dir as data_dirs
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.ports import LOOPBACK
from zest_pipelines.local.sockets import SocketPathError, socket_folder
from zest_pipelines.local.supervisor import Child

ROOT = Path(__file__).resolve().parents[2]
"""The clone this code stands in."""

MODULE = "zest_pipelines.definitions"
LOCATION = "zest"
"""The code location's name, here and in the clone's workspace.yaml: schedules that are switched off go by it."""

_SOCKET = "code.sock"
_CALLS_AT_ONCE = 16  # of the code server: eight ticks, and pages of the UI beside them
_READY_SECONDS = 2


class DagsterHomeError(Exception):
    """Dagster's configuration cannot be put in place; the message names the next step."""


def environment(data_dir: DataDir, logins: Logins) -> dict[str, str]:
    """What every Dagster process of this installation needs. Holds a password."""
    return {
        data_dirs.VARIABLE: str(data_dir.path),
        "DAGSTER_HOME": str(data_dir.dagster),
        "ZEST_DAGSTER_URL": logins.dagster_url(),
        # Without these two, a run over a thousand tenants spends 56 s on its own events instead of one.
        "DAGSTER_EVENT_BATCH_SIZE": "1000",
        "DAGSTER_EMIT_PARTITION_SUBSET_IN_PLANNED_EVENTS": "1",
        "DAGSTER_DISABLE_TELEMETRY": "1",
    }


def configure(data_dir: DataDir, env: Mapping[str, str]) -> Path | None:
    """Put in place what Dagster's processes read: the clone's dagster.yaml, the workspace, and `environment` for
    processes that others start. In the clone, write `.env` for `dagster dev` as well; its path.

    Outside of the clone `.env` is left alone (None), so that a test or a second installation does not turn the
    clone's `dagster dev` to another data directory. Raises DagsterHomeError.
    """
    link_config(data_dir)
    write_private(_workspace_file(data_dir), _workspace(code_socket(data_dir)))
    write_env_file(data_dir.environment_file, env)
    if not Path.cwd().is_relative_to(ROOT):
        return None
    path = ROOT / ".env"
    write_env_file(path, env)
    return path


def write_env_file(path: Path, variables: Mapping[str, str]) -> None:
    """Put the variables into the `.env` at `path` (mode 0600); lines about other variables are kept."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    kept = [line for line in lines if line.partition("=")[0].removeprefix("export ").strip() not in variables]
    ours = [f"{name}='{_quoted(value)}'" for name, value in variables.items()]
    write_private(path, "\n".join([*kept, *ours]) + "\n")


def services(data_dir: DataDir, port: int, env: Mapping[str, str]) -> tuple[Child, ...]:
    """In the order in which they need each other: the code server, the webserver, on loopback since it has no login,
    the daemon, and what looks whether these still work."""
    path, workspace = code_socket(data_dir), str(_workspace_file(data_dir))
    definitions = ["--module-name", MODULE, "--location-name", LOCATION, "--max-workers", str(_CALLS_AT_ONCE)]
    webserver = ["-m", "dagster_webserver", "--host", LOOPBACK, "--port", str(port), "--workspace", workspace]
    daemon = ["-m", "dagster._daemon", "run", "--workspace", workspace]
    return (
        Child(
            "code",
            [sys.executable, "-m", "dagster", "api", "grpc", "--socket", str(path), *definitions],
            env,
            ready=lambda: _listens(path),
        ),
        Child(
            "webserver",
            [sys.executable, *webserver],
            env,
            ready=lambda: _answers(f"http://{LOOPBACK}:{port}/server_info"),
        ),
        Child("daemon", [sys.executable, *daemon], env),
        Child("lookout", [sys.executable, "-m", "zest_pipelines.cli", "alerts", "watch"], env),
    )


def code_socket(data_dir: DataDir) -> Path:
    """Where the code server listens. Raises DagsterHomeError where no path is short enough."""
    try:
        return socket_folder(data_dir.dagster, _SOCKET, os.geteuid()) / _SOCKET
    except SocketPathError as error:
        raise DagsterHomeError(str(error)) from error


def link_config(data_dir: DataDir) -> None:
    """Make the home use the clone's dagster.yaml. Raises DagsterHomeError if there is none."""
    config = ROOT / "dagster.yaml"
    if not config.exists():
        raise DagsterHomeError(f"{config} is missing: run zest from a clone, installed with `make setup`")
    link = data_dir.dagster / config.name
    if link.resolve() != config:
        link.unlink(missing_ok=True)
        link.symlink_to(config)


def _workspace_file(data_dir: DataDir) -> Path:
    return data_dir.dagster / "workspace.yaml"


def _workspace(code: Path) -> str:
    server = {"socket": str(code), "location_name": LOCATION}
    return yaml.safe_dump({"load_from": [{"grpc_server": server}]}, allow_unicode=True)


def _listens(path: Path) -> bool:
    """Whether a code server has loaded its code: it listens only then."""
    with socket.socket(socket.AF_UNIX) as probe:
        return probe.connect_ex(str(path)) == 0


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=_READY_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
