"""Secrets come from a file or standard input: an argument would stand in the list of processes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

from zest_pipelines.cli.options import InputError

_LONGEST = 64 * 1024  # characters


def read_text(source: str) -> str:
    """The text in the file, or on standard input for `-`. InputError, which quotes nothing of it."""
    try:
        if source == "-":
            return sys.stdin.read(_LONGEST)
        with Path(source).open(encoding="utf-8") as file:
            return file.read(_LONGEST)
    except FileNotFoundError:
        raise InputError(f"There is no secret file {source}: make it, or give - for standard input") from None
    except (OSError, ValueError):
        raise InputError(f"{source} cannot be read: it is to be a text in UTF-8") from None


def read_secret(source: str) -> object:
    """The JSON in it. InputError, which quotes nothing of it."""
    try:
        return json.loads(read_text(source))
    except ValueError:
        raise InputError('The secret cannot be read: write a JSON object such as {"token": "..."}') from None
