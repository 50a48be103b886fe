"""Whose turn it is at a limit that many share: weighted by tenant, and people before background work.

Each who waits has a place with a tag, the virtual time at which it was served last, and the lowest tag goes next
(start-time fair queueing). A grant raises the tag by 1 / weight, so of those who always wait each gets its weight's
share, and who comes anew stands beside the others, neither behind them nor before them. Idle time saves up nothing.

The two priorities take turns in the same way: people get their tenants' share, and at least RESERVED however many
background tenants wait; where one of the two does not wait, the other has all.

Nobody is held up by who is not there: a place counts from the time that it was told to come back at, and for ABSENCE
after that.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import NamedTuple

RESERVED = 0.2
"""The least share of those who are asked for by people, while any of them wait."""
ABSENCE = 0.5
"""Seconds after its time for which a place is still waited for."""
_MOST_REMEMBERED = 500
"""Tenants that wait for nothing and were served ahead of others."""


class Priority(StrEnum):
    """Who wants a call."""

    PEOPLE = "people"
    """A person waits for it."""
    BACKGROUND = "background"


class Place(NamedTuple):
    """One tenant's, of one priority."""

    tag: float
    """Virtual time."""
    weight: int
    """1 to 100."""
    back_at: float | None
    """When it was told to ask again; None: it waits for nothing."""


class Queue(NamedTuple):
    """Who waits at one limit."""

    places: Mapping[tuple[str, Priority], Place] = {}
    times: Mapping[Priority, float] = {}
    """By priority: the virtual time, which is the tag of who was served last."""
    shares: Mapping[Priority, float] = {}
    """By priority: its own tag among the two."""
    share_time: float = 0.0


EMPTY = Queue()


@dataclass(frozen=True)
class Who:
    """Who asks."""

    tenant: str
    priority: Priority = Priority.BACKGROUND
    weight: int = 1

    @property
    def key(self) -> tuple[str, Priority]:
        """Of its place."""
        return self.tenant, self.priority


def rivals(queue: Queue, who: Who, now: float, at: float) -> list[tuple[tuple[str, Priority], Place]]:
    """Who else waits, and will have come for a slot at `at`."""
    return [
        (key, place)
        for key, place in queue.places.items()
        if key != who.key and place.back_at is not None and place.back_at <= at and now <= place.back_at + ABSENCE
    ]


def is_alone(queue: Queue, who: Who, now: float) -> bool:
    """Whether nobody else waits, for whatever slot."""
    return not rivals(queue, who, now, math.inf)


def is_next(queue: Queue, who: Who, others: Sequence[tuple[tuple[str, Priority], Place]]) -> bool:
    """Whether nobody of `others` (`rivals`) goes before it."""
    mine = (_share_tag(queue, who.priority), _tag(queue, who), who.tenant)
    for (tenant, priority), place in others:
        if priority is who.priority:
            if (place.tag, tenant) < mine[1:]:
                return False
        elif (_share_tag(queue, priority), priority is Priority.BACKGROUND) < (
            mine[0],
            who.priority is Priority.BACKGROUND,
        ):
            return False
    return True


def served(queue: Queue, who: Who, others: Sequence[tuple[tuple[str, Priority], Place]], slots: int = 1) -> Queue:
    """After so many slots, at least one, were given to it one after the other while `others` waited."""
    first, step = _tag(queue, who), 1 / who.weight
    place = Place(first + slots * step, who.weight, queue.places[who.key].back_at if who.key in queue.places else None)
    start, share_step = _share_tag(queue, who.priority), 1 / _share(who, others)
    return Queue(
        {**queue.places, who.key: place},
        {**queue.times, who.priority: max(first + (slots - 1) * step, queue.times.get(who.priority, 0.0))},
        {**queue.shares, who.priority: start + slots * share_step},
        max(start + (slots - 1) * share_step, queue.share_time),
    )


def placed(queue: Queue, who: Who, back_at: float | None) -> Queue:
    """After it was told when to ask again; None: it waits no longer."""
    place = Place(_tag(queue, who), who.weight, back_at)
    return queue._replace(places={**queue.places, who.key: place})


def ahead(queue: Queue, who: Who, others: Sequence[tuple[tuple[str, Priority], Place]]) -> int:
    """How many slots `others` get before it at the least: one each of those who go before it.

    How many more calls they wait for nobody knows, and a slot that nobody comes for is lost.
    """
    before = [key for key, place in others if not is_next(queue, who, [(key, place)])]
    fellows = sum(priority is who.priority for _, priority in before)
    return max(1, fellows + (fellows < len(before)))


def pruned(queue: Queue, now: float) -> Queue:
    """Without those who have gone, and without what would change nothing."""
    kept = {}
    for key, place in queue.places.items():
        waits = place.back_at is not None and now <= place.back_at + ABSENCE
        if waits:
            kept[key] = place
        elif place.tag > queue.times.get(key[1], 0.0):
            kept[key] = place._replace(back_at=None)
    idle = sorted((place.tag, key) for key, place in kept.items() if place.back_at is None)
    for _, key in idle[:-_MOST_REMEMBERED]:
        del kept[key]
    return queue._replace(places=kept)


def _tag(queue: Queue, who: Who) -> float:
    now = queue.times.get(who.priority, 0.0)
    place = queue.places.get(who.key)
    if place is None:
        return now
    return place.tag if place.back_at is not None else max(now, place.tag)


def _share_tag(queue: Queue, priority: Priority) -> float:
    return max(queue.share_time, queue.shares.get(priority, 0.0))


def _share(who: Who, others: Sequence[tuple[tuple[str, Priority], Place]]) -> float:
    """What part of the slots belongs to who asks with its priority while all of these wait."""
    fellows = who.weight + sum(place.weight for (_, priority), place in others if priority is who.priority)
    rest = sum(place.weight for (_, priority), place in others if priority is not who.priority)
    if not rest:
        return 1.0
    part = fellows / (fellows + rest)
    return max(RESERVED, part) if who.priority is Priority.PEOPLE else min(1 - RESERVED, part)
