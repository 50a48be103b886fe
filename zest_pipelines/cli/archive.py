"""`zest archive`: put a month of settled history away, while pushes go on."""

from __future__ import annotations

from datetime import date
from typing import Annotated

import typer

from zest_pipelines.cli.options import DataDirOption, InputError, JsonOption, chosen_data_dir, counted, print_json, tell


def archive(
    month: Annotated[str, typer.Argument(metavar="MONTH", help="Such as 2026-08.", show_default=False)],
    data_dir: DataDirOption = None,
    json_: JsonOption = False,
) -> None:
    """Put a month's history away, into the schema `archive`, once all of it is settled for every tenant.

    Nothing is deleted, and nothing stands still. The records stay known, but their steps of that month are not shown
    any more. And where only the content tells that somebody changed a copy at the partner, one that was last delivered
    in that month is not compared any more: its next edit goes over such a change.
    """
    from partners.registry import ONLY_READ
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.flows.archive import archive as put_away

    first = checked_month(month)
    with open_session(chosen_data_dir(data_dir)) as session:
        report = put_away(session.services(), first, ONLY_READ)
    if json_:
        print_json({"month": month, "tables": list(report.tables), "waits": report.waits})
    if report.waits is not None:
        tell(f"{month} stays where it is: {report.waits}")
        raise typer.Exit(1)
    if not json_:
        tell(f"{month}: {counted(len(report.tables), 'table')} put away into the schema archive.")


def checked_month(text: str) -> date:
    """The month's first day. InputError."""
    try:
        return date.fromisoformat(f"{text}-01")
    except ValueError:
        raise InputError(f"{text!r} is not a month: write one such as 2026-08") from None
