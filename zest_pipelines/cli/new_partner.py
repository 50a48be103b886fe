"""`zest new-partner`: the folder of a partner that is still to be written, which the certification fails usefully."""

from __future__ import annotations

import keyword
import re
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from string import Template
from typing import Annotated

import typer

from zest_pipelines.cli.options import InputError, tell

_NAME = re.compile(r"[a-z][a-z0-9_]*")
_LONGEST = 30


def new_partner(
    name: Annotated[str, typer.Argument(metavar="NAME", help="a-z, 0-9 and _, such as kagayaki.", show_default=False)],
    title: Annotated[str, typer.Option(help="As people write it. Default: the name.", show_default=False)] = "",
) -> None:
    """Write the folder of a new partner into the clone: declaration, client, mapping, codes, sandbox and bench."""
    import partners
    from partners import contract

    folder = Path(partners.__path__[0]) / name
    if not _NAME.fullmatch(name):
        raise InputError("The name is not a-z, 0-9 and _, beginning with a letter: choose another")
    if len(name) > _LONGEST:
        raise InputError(f"The name has {len(name)} characters, and {_LONGEST} are the most: choose a shorter one")
    if keyword.iskeyword(name):
        raise InputError(f"{name!r} is a word of Python's, so no module can be called that: choose another name")
    if name.upper() in vars(contract):
        raise InputError(f"{name.upper()} is what the contract calls something else: choose another name")
    if folder.exists():
        raise InputError(f"{folder} is there already: choose another name, or remove it")
    if (module := folder.with_suffix(".py")).exists():
        raise InputError(
            f"{module} is a module that all partners share, and the folder would hide it: choose another name"
        )
    shown = title.strip() or name
    if not shown.isprintable() or set(shown) & set('"\\$'):
        raise InputError("The title holds a quote, a backslash, a $ or what cannot be printed: give another --title")
    write_partner(folder, name, shown)
    tell(
        f"{folder} is there. Next: add its line to partners/registry.py, then fill it until zest certify {name} passes "
        "(CONTRIBUTING.md, Adding a partner)"
    )


def write_partner(folder: Path, name: str, title: str) -> None:
    """Write the files of a partner of that name into a folder that is not there yet."""
    words = {
        "name": name,
        "NAME": name.upper(),
        "Class": "".join(part.capitalize() for part in name.split("_")),
        "title": title,
    }
    _write(files("partners").joinpath("certification", "template"), folder, words)


def _write(template: Traversable, folder: Path, words: dict[str, str]) -> None:
    folder.mkdir()
    for each in template.iterdir():
        if each.is_dir():
            _write(each, folder / each.name, words)
        elif each.name.endswith(".txt"):
            text = Template(each.read_text(encoding="utf-8")).substitute(words)
            (folder / each.name.removesuffix(".txt")).write_text(text, encoding="utf-8")
