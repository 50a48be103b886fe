"""The folder in which one installation keeps everything of its own on this machine.

It is private (0700), since it holds passwords, the vault's key and the embedded server's files, and it
says which format it has: a folder of another format, or one that is somebody else's, is left untouched.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

FORMAT = "1"
VARIABLE = "ZEST_DATA_DIR"

_SCRATCH = ".VERSION."  # an opening that has not finished


class DataDirError(Exception):
    """The folder cannot be used as a data directory; the message names the next step."""


@dataclass(frozen=True, slots=True)
class DataDir:
    """Names of what an installation keeps. Making one touches nothing; `open` does."""

    path: Path

    @classmethod
    def resolve(cls, option: Path | None, environ: Mapping[str, str] = os.environ) -> DataDir:
        """--data-dir if given, else ZEST_DATA_DIR, else `.zest` under the project root."""
        chosen = option or environ.get(VARIABLE) or _project_root() / ".zest"
        return cls(Path(chosen).expanduser().resolve())

    @property
    def version_file(self) -> Path:
        return self.path / "VERSION"

    @property
    def pg(self) -> Path:
        """The embedded server's files."""
        return self.path / "pg"

    @property
    def logins_file(self) -> Path:
        return self.path / "logins.json"

    @property
    def vault_key_file(self) -> Path:
        return self.path / "vault.key"

    @property
    def environment_file(self) -> Path:
        """What Dagster's processes need in their environment, where something else starts them."""
        return self.path / "environment"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def dagster(self) -> Path:
        """DAGSTER_HOME."""
        return self.path / "dagster"

    @property
    def sandbox(self) -> Path:
        """The demo's partners."""
        return self.path / "sandbox"

    def open(self) -> None:
        """Make the folder and its parts, or check that it is ours, of this format, and private.

        Raises DataDirError, with nothing changed, for a folder of another format or somebody else's.
        """
        self._check()
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._make_private(self.path)
        self._write_version()
        for part in (self.logs, self.dagster, self.sandbox):
            part.mkdir(mode=0o700, exist_ok=True)

    def _check(self) -> None:
        if self.path.exists() and not self.path.is_dir():
            raise DataDirError(f"{self.path} is not a folder: choose another with --data-dir")
        if self.version_file.exists():
            self._check_format(self.version_file.read_text(encoding="ascii", errors="replace").strip())
        elif self.path.is_dir() and any(not e.name.startswith(_SCRATCH) for e in self.path.iterdir()):
            raise DataDirError(
                f"{self.path} is not empty and not a data directory of zest: choose another with --data-dir"
            )

    def _check_format(self, found: str) -> None:
        if found != FORMAT:
            raise DataDirError(
                f"{self.path} has format {found!r}, this version of zest reads {FORMAT!r}: "
                "use the version that made it, or start anew in another folder with --data-dir"
            )

    def _make_private(self, folder: Path) -> None:
        try:
            folder.chmod(0o700)
        except PermissionError:
            raise DataDirError(
                f"{folder} belongs to another user: work as that user, or choose another with --data-dir"
            ) from None

    def _write_version(self) -> None:
        """In one step, so that a second opening never sees a folder of ours without its format."""
        if self.version_file.exists():
            return
        descriptor, scratch = tempfile.mkstemp(dir=self.path, prefix=_SCRATCH)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write(f"{FORMAT}\n")
        os.replace(scratch, self.version_file)


def _project_root() -> Path:
    """The clone this code stands in; where it was installed without one, the current folder."""
    root = Path(__file__).resolve().parents[2]
    return root if (root / "pyproject.toml").exists() else Path.cwd()
