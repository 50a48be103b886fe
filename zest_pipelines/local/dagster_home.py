"""Dagster's processes on one machine: their folder, their environment, their commands.

Every Dagster process loads `.env` from the folder it runs in and lets it win over the environment. A clone's
`.env` may speak of another data directory, so `up` and `demo` work in Dagster's home, where there is none.
"""

from __future__ import annotations

import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path

from resources.logins import Logins
from resources.private_files import write_private
from zest_pipelines.local import data_dir as data_dirs
from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.ports import LOOPBACK
from zest_pipelines.local.supervisor import Child

ROOT = Path(__file__).resolve().parents[2]
"""The clone this code stands in."""

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
    """Make the home use the clone's dagster.yaml and, in the clone, write `.env` for `dagster dev`; its path.

    Outside of the clone `.env` is left alone (None), so that a test or a second installation does not turn the
    clone's `dagster dev` to another data directory. Raises DagsterHomeError if there is no dagster.yaml.
    """
    link_config(data_dir)
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


def services(port: int, env: Mapping[str, str]) -> tuple[Child, Child]:
    """The webserver, on loopback since it has no login, and the daemon."""
    workspace = ["-w", str(ROOT / "workspace.yaml")]
    webserver = [sys.executable, "-m", "dagster_webserver", "-h", LOOPBACK, "-p", str(port), *workspace]
    daemon = [sys.executable, "-m", "dagster._daemon", "run", *workspace]
    return (
        Child("webserver", webserver, env, ready=lambda: _answers(f"http://{LOOPBACK}:{port}/server_info")),
        Child("daemon", daemon, env),
    )


def link_config(data_dir: DataDir) -> None:
    """Make the home use the clone's dagster.yaml. Raises DagsterHomeError if there is none."""
    config = ROOT / "dagster.yaml"
    if not config.exists():
        raise DagsterHomeError(f"{config} is missing: run zest from a clone, installed with `make setup`")
    link = data_dir.dagster / config.name
    if link.resolve() != config:
        link.unlink(missing_ok=True)
        link.symlink_to(config)


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=_READY_SECONDS):
            return True
    except (urllib.error.URLError, OSError):
        return False


def _quoted(value: str) -> str:
    return value.replace("\\", "\\\\").replace("'", "\\'")
