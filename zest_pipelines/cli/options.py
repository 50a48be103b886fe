"""The options that commands share, and how they answer: a table for people, JSON for programs."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from zest_pipelines.local.data_dir import DataDir

if TYPE_CHECKING:
    from partners.contract import Partner

DataDirOption = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        help="Folder in which the installation keeps its own. Default: ZEST_DATA_DIR, else .zest in the clone.",
        show_default=False,
    ),
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print JSON on standard output.")]
YesOption = Annotated[bool, typer.Option("--yes", help="Do it without asking.")]
TenantArgument = Annotated[str, typer.Argument(metavar="TENANT", help="The tenant's id.", show_default=False)]
PartnerArgument = Annotated[
    str, typer.Argument(metavar="PARTNER", help="The partner's name, such as fhir.", show_default=False)
]


class InputError(Exception):
    """What was typed, or a file that it names, cannot be used; the message names the next step."""


def written_partner(name: str) -> Partner:
    """The partner of that name. UnknownPartnerError; InputError if nothing is written to it."""
    from partners.registry import partner

    declared = partner(name)
    if not declared.writes:
        raise InputError(
            f"{declared.title} is only read, so there is nothing to push and nothing is stopped on its way there: "
            f"zest sync TENANT {declared.name} reads it now"
        )
    return declared


_given: Path | None = None


def remember_data_dir(path: Path | None) -> None:
    """Keep the --data-dir that stood before the command."""
    global _given
    _given = path


def chosen_data_dir(option: Path | None = None) -> DataDir:
    """The data directory by the option after the command, before it, or the environment."""
    return DataDir.resolve(option or _given)


def out() -> Console:
    """For what a person asked to see; wide where nobody looks, so that no line is broken for a program."""
    return Console(highlight=False, width=None if sys.stdout.isatty() else 200)


def says_yes(question: str, *, yes: bool, as_json: bool) -> bool:
    """Whether what the command shows is to be done: by --yes, or because the person who typed it says so.

    A program that reads JSON is not asked, and has it done by --yes alone. InputError where nobody can be asked.
    """
    if yes:
        return True
    if as_json:
        tell("Nothing was done: look at what it would do, then repeat it with --yes")
        return False
    if not sys.stdin.isatty():
        raise InputError("Nobody can be asked here: look at what it would do, then repeat it with --yes")
    return typer.confirm(question)


def tell(sentence: str) -> None:
    """What is not the answer itself: on standard error."""
    sys.stderr.write(sentence + "\n")


def print_json(value: Any) -> None:
    """One JSON document on standard output."""
    sys.stdout.write(json.dumps(value, ensure_ascii=False, indent=2) + "\n")


def counted(number: int, singular: str) -> str:
    """`1 client`, `2 clients`."""
    return f"{number:,} {singular}{'' if number == 1 else 's'}"
