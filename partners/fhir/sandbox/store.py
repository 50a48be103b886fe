"""The vendor's database: every version of every record, in memory.

All calls come from one event loop and none of them waits, so an effect is seen whole or not at all. Whoever wants
effects to outlive the process hands in a sink: it is called before an effect is visible; if it raises, there is none.

Time stamps rise strictly over the whole store, so a type's live records, kept in the order of their last change,
are sorted by `_lastUpdated` at no cost.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal

from partners.fhir.sandbox.config import RESOURCE_TYPES
from partners.fhir.sandbox.index import Key, index_keys
from partners.fhir.sandbox.instants import format_instant, to_millis
from partners.fhir.sandbox.outcome import Json

Method = Literal["POST", "PUT", "DELETE"]


@dataclass(frozen=True)
class Version:
    """One version of one record. `resource` is shared: whoever reads it must not change it."""

    resource_type: str
    id: str
    number: int
    """meta.versionId: 1, 2, ... without gaps; a delete is a version too."""
    at: int
    """meta.lastUpdated in milliseconds since 1970 UTC."""
    method: Method
    """What made it."""
    resource: Json | None
    """The record with its meta; None: deleted."""

    @property
    def etag(self) -> str:
        """The weak entity tag of this version."""
        return f'W/"{self.number}"'


Sink = Callable[[Sequence[Version]], None]
"""Makes versions durable, all or none, before it returns."""


def _now() -> int:
    return to_millis(datetime.now(UTC))


class Store:
    """Versioned records by type and id, with an index for equality searches."""

    def __init__(self, sink: Sink | None = None, now: Callable[[], int] = _now) -> None:
        """`now` gives milliseconds since 1970 UTC and may stand still or go back: stamps rise all the same."""
        self._sink = sink
        self.now = now
        self._last = 0
        self._versions: dict[str, dict[str, list[Version]]] = {kind: {} for kind in RESOURCE_TYPES}
        self._log: dict[str, list[Version]] = {kind: [] for kind in RESOURCE_TYPES}
        self._live: dict[str, dict[str, Version]] = {kind: {} for kind in RESOURCE_TYPES}
        self._index: dict[str, dict[Key, set[str]]] = {kind: defaultdict(set) for kind in RESOURCE_TYPES}
        self._sorted: dict[tuple[str, str], list[Version]] = {}
        self._open: list[Version] | None = None

    def latest(self, resource_type: str, id: str) -> Version | None:
        """The newest version, which may be a delete; None if the id was never seen."""
        versions = self._versions[resource_type].get(id)
        return versions[-1] if versions else None

    def live(self, resource_type: str, id: str) -> Version | None:
        """The newest version unless it is a delete."""
        return self._live[resource_type].get(id)

    def last_content(self, resource_type: str, id: str) -> Json | None:
        """What a record last held, deleted or not; None if never seen, or of a type that does not exist."""
        versions = self._versions.get(resource_type, {}).get(id, ())
        return next((version.resource for version in reversed(versions) if version.resource), None)

    def history(self, resource_type: str, id: str) -> Sequence[Version]:
        """All versions of one record, oldest first; empty if never seen."""
        return tuple(self._versions[resource_type].get(id, ()))

    def log(self, resource_type: str) -> Sequence[Version]:
        """All versions of a type, oldest first. The list grows in place: do not keep it."""
        return self._log[resource_type]

    def find(self, resource_type: str, key: Key) -> frozenset[str]:
        """Ids of the live records found under `key`."""
        return frozenset(self._index[resource_type].get(key, ()))

    def by_update(self, resource_type: str) -> Sequence[Version]:
        """Live records, the least recently changed first."""
        return self._cached(resource_type, "_lastUpdated", lambda: list(self._live[resource_type].values()))

    def by_id(self, resource_type: str) -> Sequence[Version]:
        """Live records in the order of their ids."""
        rows = self._live[resource_type]
        return self._cached(resource_type, "_id", lambda: [rows[id] for id in sorted(rows)])

    def is_empty(self) -> bool:
        """Whether nothing was ever stored."""
        return not any(self._versions.values())

    def save(self, resource: Json, id: str, method: Method = "PUT", at: int | None = None) -> Version:
        """Store a new version of `resource` under `id` and return it; its `meta` gets version and time.

        `at` (milliseconds) is for loading old records; it is raised to stay above every earlier stamp.
        """
        number = self._next_number(resource["resourceType"], id)
        at = self._stamp(at)
        meta = {**(resource.get("meta") or {}), "versionId": str(number), "lastUpdated": format_instant(at)}
        head = {"resourceType": resource["resourceType"], "id": id, "meta": meta}
        rest = {name: value for name, value in resource.items() if name not in head}
        return self._commit(Version(resource["resourceType"], id, number, at, method, head | rest))

    def delete(self, resource_type: str, id: str) -> Version:
        """Store the delete of a record as its next version. KeyError if it is not live."""
        if id not in self._live[resource_type]:
            raise KeyError(id)
        number = self._next_number(resource_type, id)
        return self._commit(Version(resource_type, id, number, self._stamp(None), "DELETE", None))

    def restore(self, version: Version) -> None:
        """Take in a version that was stored before; they come in the order in which they were made."""
        self._last = max(self._last, version.at)
        self._install(version)

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Everything stored inside becomes durable in one piece, or is undone if the block or the sink raises."""
        if self._open is not None:
            raise RuntimeError("transactions do not nest")
        self._open = []
        try:
            yield
            if self._sink is not None and self._open:
                self._sink(self._open)
        except BaseException:
            self._undo(self._open)
            raise
        finally:
            self._open = None

    def _next_number(self, resource_type: str, id: str) -> int:
        return len(self._versions[resource_type].get(id, ())) + 1

    def _stamp(self, at: int | None) -> int:
        self._last = max(self.now() if at is None else at, self._last + 1)
        return self._last

    def _commit(self, version: Version) -> Version:
        if self._open is not None:
            self._open.append(version)
        elif self._sink is not None:
            self._sink((version,))
        self._install(version)
        return version

    def _install(self, version: Version) -> None:
        kind, id = version.resource_type, version.id
        self._versions[kind].setdefault(id, []).append(version)
        self._log[kind].append(version)
        self._reindex(kind, id, self._live[kind].pop(id, None), version)
        if version.resource is not None:
            self._live[kind][id] = version  # re-entered at the end: this order is the order of lastUpdated
        self._forget_sorted(kind)

    def _undo(self, versions: Sequence[Version]) -> None:
        for version in reversed(versions):
            kind, id = version.resource_type, version.id
            self._log[kind].pop()
            self._versions[kind][id].pop()
            before = self.latest(kind, id)
            self._reindex(kind, id, self._live[kind].pop(id, None), before)
            if before is None:
                del self._versions[kind][id]
            elif before.resource is not None:
                self._live[kind][id] = before
        for kind in {version.resource_type for version in versions}:
            rows = self._live[kind].items()
            self._live[kind] = dict(sorted(rows, key=lambda item: item[1].at))
            self._forget_sorted(kind)

    def _reindex(self, kind: str, id: str, old: Version | None, new: Version | None) -> None:
        index = self._index[kind]
        for key in index_keys((old and old.resource) or {}):
            index[key].discard(id)
            if not index[key]:
                del index[key]
        for key in index_keys((new and new.resource) or {}):
            index[key].add(id)

    def _cached(self, kind: str, order: str, build: Callable[[], list[Version]]) -> list[Version]:
        if (kind, order) not in self._sorted:
            self._sorted[kind, order] = build()
        return self._sorted[kind, order]

    def _forget_sorted(self, kind: str) -> None:
        self._sorted.pop((kind, "_lastUpdated"), None)
        self._sorted.pop((kind, "_id"), None)
