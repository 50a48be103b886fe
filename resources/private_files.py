"""Files that only their owner may read: passwords and the vault's keys.

A secret that others can read is refused rather than read with a warning: a warning scrolls by, and the
file would be trusted from then on. Nothing here says what stands in a file.
"""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

_OTHERS = stat.S_IRWXG | stat.S_IRWXO


class PrivateFileError(Exception):
    """A file with secrets cannot be used as it is; the message names the next step."""


def read_private(path: Path) -> str:
    """The text of `path`, which nobody but its owner may open.

    Raises FileNotFoundError where there is none, PrivateFileError where group or others have any right to it.
    """
    with path.open(encoding="utf-8") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & _OTHERS:
            raise PrivateFileError(
                f"{path} holds secrets and is open to other users (mode {mode:04o}): run `chmod 600 {path}`"
            )
        return file.read()


def write_private(path: Path, text: str) -> None:
    """Put `text` at `path` with mode 0600, whole or not at all: a reader sees the old text or the new one."""
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # made with 0600
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
