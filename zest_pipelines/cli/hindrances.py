"""What keeps a connection or a record from going on, as commands show it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

from partners.reasons import sentences
from partners.windows import closed_at, parse_window
from zest_pipelines.cli.options import out
from zest_pipelines.cli.words import Json, local, utc
from zest_pipelines.core.reference import reference

if TYPE_CHECKING:
    from zest_pipelines.store.hindrances import Hindrances, TheirChange


def hold(tenant: str, found: Hindrances, now: datetime) -> Json | None:
    """Why nothing is sent now, and until when: closed hours, whether a push has met them or not, or what is noted."""
    from zest_pipelines.store.holds import OUTSIDE_WINDOW

    end = closed_at([parse_window(text) for text in closed_times(found)], now)
    if end is not None:
        return _told(tenant, found.partner, OUTSIDE_WINDOW, {}, None, end)
    held = found.held
    if held is None or held.reason == OUTSIDE_WINDOW:
        return None
    return _told(tenant, found.partner, held.reason, held.params, held.since, held.until)


def closed_times(found: Hindrances) -> Sequence[str]:
    """The closed times that hold for the connection."""
    from partners.registry import PARTNERS

    if found.closed is not None:
        return found.closed
    return PARTNERS[found.partner].closed if found.partner in PARTNERS else ()


def their_change(found: TheirChange, with_values: bool) -> Json:
    """One field that somebody changed there; both sides' values only if they were asked for."""
    named = {"partner": found.partner, "version": found.version, "field": found.name}
    return named | ({"ours": found.ours, "theirs": found.theirs} if with_values else {})


def print_hold(tenant: str, hold: Json) -> None:
    """A line of what `hold` found."""
    until = local(hold["until"])
    told = f"{tenant}, {hold['partner']}: nothing is sent until {until}: {hold['message']} {hold['next_action']}"
    out().print(told, soft_wrap=True, markup=False)


def print_their_changes(changes: Sequence[Json], title: str) -> None:
    """A table of what `their_change` made; nothing for none."""
    if not changes:
        return
    columns = ("partner", "version", "field", *(side for side in ("ours", "theirs") if side in changes[0]))
    table = Table(*columns, title=title, title_justify="left")
    for each in changes:
        table.add_row(*(escape(str(each[name] or "")) for name in columns))
    out().print(table)


def _told(
    tenant: str, partner: str, reason: str, params: Mapping[str, str], since: datetime | None, until: datetime
) -> Json:
    message, action = sentences(reason, params, reference(tenant, partner))
    told = {"partner": partner, "reason": reason, "since": utc(since), "until": utc(until)}
    return told | {"message": message, "next_action": action}
