"""What a limit still gives, as the ledger keeps it, in the terms that a forecast counts with. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta

from partners.limits import Kind
from zest_pipelines.core.forecast import Daily, Evenly, Sliding, Supply, share
from zest_pipelines.core.meters import Bucket, day_ends, in_window, interval, leaves
from zest_pipelines.core.turns import ABSENCE, Who


def supply(bucket: Bucket, who: Who, now: float) -> Supply:
    """Of the bucket for `who`, at `now` of the ledger's clock; what is closed is left to the forecast."""
    free = max(0, bucket.allowed - in_window(bucket, now))
    match bucket.limit.kind:
        case Kind.PACED | Kind.LEAKY:
            burst = int(bucket.limit.allowed_at_once or 1)
            pace = timedelta(seconds=interval(bucket))
            return Evenly(moment(bucket.state.free_at), pace, burst, share(who.weight, waiting(bucket, who, now)))
        case Kind.COUNTED:
            beyond = max(
                0, in_window(bucket, now) - bucket.allowed
            )  # of a limit that was lowered: these give nothing back
            returns = tuple((moment(at), calls) for at, calls in _after(beyond, leaves(bucket, now)))
            kept = returns[-1][0] - moment(now) if returns else timedelta(0)
            return Sliding(free, returns, max(timedelta(seconds=bucket.limit.seconds), kept))
        case Kind.FIXED:
            return Daily(free, bucket.allowed, moment(day_ends(bucket.limit, now)))


def _after(beyond: int, leaving: Iterable[tuple[float, int]]) -> Iterator[tuple[float, int]]:
    """The times and numbers without the first `beyond` calls."""
    for at, calls in leaving:
        passed = min(beyond, calls)
        beyond -= passed
        if calls > passed:
            yield at, calls - passed


def waiting(bucket: Bucket, who: Who, now: float) -> list[int]:
    """The weights of the other tenants that wait in the bucket's queue."""
    return [
        place.weight
        for (tenant, _), place in bucket.state.queue.places.items()
        if tenant != who.tenant and place.back_at is not None and now <= place.back_at + ABSENCE
    ]


def moment(seconds: float) -> datetime:
    """A time of the ledger's clock, aware."""
    return datetime.fromtimestamp(seconds, UTC)
