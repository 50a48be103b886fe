"""Whether to send the newest version of a record, and as what.

Only the newest matters: the older ones are never sent. A record that was created and cancelled before anything was
sent is not needed at the partner at all. Law: what stands at the partner afterwards is what would stand there had
every version been sent in order.

Not to be asked while an earlier attempt is in doubt. A create that timed out may have arrived: dropping its cancel as
"not needed" would leave a visit standing at the partner that nobody plans to make.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Literal

from partners.contract import Verb
from zest_pipelines.core.outcome import Outcome


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


Needless = Literal[Outcome.SUPERSEDED, Outcome.NOT_NEEDED]


def decide(newest: Version, settled: int, there: Op | None) -> Verb | Needless:
    """The verb to send the newest open version with, or how it ends without a call.

    `settled` is the newest version that has ended for good, 0 if none has. An open version not above it came late:
    sending it would turn the partner back. `there` is what the partner was last made to have, None if it never had
    the record.

    A cancelled record is brought back by an update: it still stands at the partner, under the id that we know.
    """
    if newest.number <= settled:
        return Outcome.SUPERSEDED
    if newest.op is Op.UPSERT:
        return Verb.CREATE if there is None else Verb.UPDATE
    return Verb.CANCEL if there is Op.UPSERT else Outcome.NOT_NEEDED
