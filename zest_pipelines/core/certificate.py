"""Whether one reading of a partner's list can be trusted to be all of it.

A list that lost a page looks like a list with fewer people, and the next thing that happens is that they
are deleted. So a reading is certified only if nothing speaks against it, and even then a missing record is
a suspicion, to be proven by a point read. A reading of changed records alone says nothing about who is
missing, however complete.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum


class Gap(StrEnum):
    """What speaks against a reading."""

    NO_PAGE = "no_page"
    LAST_PAGE_MISSING = "last_page_missing"
    PAGE_AFTER_LAST = "page_after_last"
    ENDLESS = "endless"
    """Far more came than the list can have: its pages lead in a ring, or never end."""
    TOTAL_MOVED = "total_moved"
    """Two pages told different totals: the list changed while it was read."""
    COUNT_DIFFERS = "count_differs"
    """The ids read are more or fewer than the partner's total."""
    ID_TWICE = "id_twice"
    """An id came twice with different content."""
    RECORD_WITHOUT_ID = "record_without_id"
    """Something was listed that has no id by which it could be known."""


@dataclass(frozen=True)
class Certificate:
    """The verdict on one reading."""

    gaps: tuple[Gap, ...]
    """Empty: certified."""
    is_full: bool
    """Whether every page was of all records."""

    @property
    def is_certified(self) -> bool:
        """Whether every record asked for has arrived: the cursor may advance."""
        return not self.gaps

    @property
    def casts_suspicion(self) -> bool:
        """Whether a record that did not come may have been deleted; still to be proven."""
        return self.is_certified and self.is_full


MOST_PAGES = 100_000
"""Of a partner that tells no total."""
_TIMES, _SPARE = 3, 1_000
"""A list that is begun again in its midst, for an address that expired, comes less than twice, and may be taken up and
begun again once more; one whose total is a little wrong shall land."""
_ENOUGH_TOTALS = 2  # two that differ are as bad as a thousand, and a reading keeps nothing that grows with it


@dataclass(frozen=True)
class Seen:
    """What was seen of a reading so far. Start with `Seen()`."""

    pages: int = 0
    ids: int = 0
    """Different ones; known when all pages are counted."""
    totals: frozenset[int] = frozenset()
    """What the pages said the whole reading has; at most two of them."""
    is_full: bool = True
    is_last_reached: bool = False
    is_overrun: bool = False
    length: int = 0
    """Rows on all pages, the same ones again too; a page without any counts as one."""
    changed_duplicates: int = 0
    """Ids that came again with other content."""
    nameless: int = 0
    """Records that have no id."""

    @property
    def is_endless(self) -> bool:
        """Whether it is to be broken off: no list of what the partner told is so long."""
        if not self.totals:
            return self.pages >= MOST_PAGES
        return self.length > _TIMES * max(self.totals) + _SPARE

    def with_page(
        self,
        *,
        total: int | None,
        is_full: bool,
        is_last: bool,
        rows: int = 0,
        changed_duplicates: int = 0,
        nameless: int = 0,
    ) -> Seen:
        """The reading with one more page.

        `total` is what the page says the whole reading has, None if it does not say; `rows` counts what is on
        it, `changed_duplicates` the ids that came twice on this very page with different content, `nameless` what has
        none.
        """
        told = frozenset() if total is None or len(self.totals) == _ENOUGH_TOTALS else {total}
        return replace(
            self,
            pages=self.pages + 1,
            totals=self.totals | told,
            is_full=self.is_full and is_full,
            is_last_reached=self.is_last_reached or is_last,
            is_overrun=self.is_overrun or self.is_last_reached,
            length=self.length + max(rows, 1),
            changed_duplicates=self.changed_duplicates + changed_duplicates,
            nameless=self.nameless + nameless,
        )

    def counted(self, *, ids: int, changed_duplicates: int) -> Seen:
        """The reading with what only all its pages together tell: how many different ids came, and how many came again
        on a later page with other content."""
        return replace(self, ids=ids, changed_duplicates=self.changed_duplicates + changed_duplicates)

    def certify(self) -> Certificate:
        """The verdict. A partner that tells no total is believed when its last page came."""
        against = {
            Gap.NO_PAGE: self.pages == 0,
            Gap.LAST_PAGE_MISSING: not self.is_last_reached,
            Gap.PAGE_AFTER_LAST: self.is_overrun,
            Gap.ENDLESS: self.is_endless,
            Gap.TOTAL_MOVED: len(self.totals) > 1,
            Gap.COUNT_DIFFERS: len(self.totals) == 1 and self.totals != {self.ids},
            Gap.ID_TWICE: self.changed_duplicates > 0,
            Gap.RECORD_WITHOUT_ID: self.nameless > 0,
        }
        return Certificate(tuple(gap for gap, holds in against.items() if holds), self.is_full)
