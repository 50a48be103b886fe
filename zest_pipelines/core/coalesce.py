"""Which of a record's open versions to send, and as what.

Only the newest matters: the older ones are superseded without a call. A record that was created and
cancelled before anything was sent is not needed at the partner at all. Law: what stands at the partner
afterwards is what would stand there had every version been sent in order.

Nothing is decided while an earlier attempt is in doubt. A create that timed out may have arrived: dropping
its cancel as "not needed" would leave a visit standing at the partner that nobody plans to make.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import StrEnum

from partners.contract import Verb


class Op(StrEnum):
    """What a version wants at the partner."""

    UPSERT = "upsert"
    CANCEL = "cancel"


@dataclass(frozen=True)
class Version:
    """One version of one record."""

    number: int
    """Drawn under the record's row lock: the higher is the newer."""
    op: Op


@dataclass(frozen=True)
class Decision:
    """What becomes of the open versions: each is in one place, unless the record must be read back."""

    send: Version | None = None
    verb: Verb | None = None
    """Set if `send` is."""
    superseded: tuple[Version, ...] = ()
    not_needed: tuple[Version, ...] = ()
    must_read_back: bool = False
    """Nothing else is decided: find out first what the attempt in doubt did."""


def coalesce(versions: Collection[Version], delivered: Version | None, is_in_doubt: bool) -> Decision:
    """Decide on a record's open versions (in any order, each number once).

    `delivered` is the newest version that the partner is known to have, None if it has none.
    `is_in_doubt`: an attempt of any version ended unknown, or was begun and has no result.

    Versions not above the delivered one are superseded: sending them would turn the partner back.
    """
    if is_in_doubt:
        return Decision(must_read_back=True)
    ordered = sorted(versions, key=lambda version: version.number)
    if not ordered or (delivered is not None and ordered[-1].number <= delivered.number):
        return Decision(superseded=tuple(ordered))
    *older, newest = ordered
    verb = _verb(newest.op, None if delivered is None else delivered.op)
    if verb is None:
        return Decision(superseded=tuple(older), not_needed=(newest,))
    return Decision(send=newest, verb=verb, superseded=tuple(older))


def _verb(wanted: Op, there: Op | None) -> Verb | None:
    """What turns the partner's state into the wanted one; None: it is so already.

    A cancelled record is brought back by an update: it still stands at the partner, under the id that we
    know.
    """
    if wanted is Op.UPSERT:
        return Verb.CREATE if there is None else Verb.UPDATE
    return Verb.CANCEL if there is Op.UPSERT else None
