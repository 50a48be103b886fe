"""Absence: what becomes of the records that a certified full reading did not show.

That is a suspicion and no more: a row deleted and one added between two pages of a list shift a third out of sight,
with the total and all ids right. Here the partner is asked for each, where it can be (`Capability.proves_absence`):
only its own "not there" makes a record gone. Who is not asked for this time, or not answered for, stays a suspect for
the next reading; those never asked for go first.
"""

from __future__ import annotations

import time

from partners.contract import Connector, Gone, PointRead
from partners.errors import Deferred, PartnerError
from resources.logins import Login
from zest_pipelines.flows.pages import Pages
from zest_pipelines.flows.services import Services
from zest_pipelines.flows.versions import Mapper
from zest_pipelines.store import suspicions

MOST_POINT_READS = 200
"""Suspects that are asked for after one reading; more wait for the next one."""
MOST_SECONDS = 120.0
"""For so long after one reading, however slow the partner or its limits are."""


def ask_for_suspects(services: Services, mapper: Mapper, connector: Connector, pages: Pages) -> None:
    """Ask for each suspect of the entity, whichever reading raised it, until it fails or the limits say later."""
    if not isinstance(mapper.partner.capability.proves_absence, PointRead):
        return
    reading = pages.reading
    with services.database.transaction(Login.LAND, reading.tenant) as tx:
        suspects = suspicions.to_ask(tx, reading, MOST_POINT_READS)
    until = time.monotonic() + MOST_SECONDS
    for partner_id in suspects:
        if time.monotonic() >= until:
            return
        try:
            found = connector.fetch(reading.entity, partner_id)
        except Deferred:  # nobody was asked
            return
        except PartnerError:
            with services.database.transaction(Login.LAND, reading.tenant) as tx:
                # It may be this one alone: the others go first next time.
                suspicions.note_asked(tx, reading, partner_id)
            return
        pages.take_answer(partner_id, None if isinstance(found, Gone) else found)
