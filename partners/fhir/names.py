"""A person's names in kanji and kana.

JP Core sends two HumanName entries, told apart by the iso21090 extension and never by their order: IDE is
kanji, SYL is kana. ABC (Latin letters) is not kept. A name without the extension is taken as kanji. A name of
`use` old is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from partners.fhir.elements import Element, best

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_KANJI, _KANA = "IDE", "SYL"

# R4, NameUse. A maiden name was in use before a marriage, so it comes last.
_USES = ("official", "usual", "", "temp", "nickname", "anonymous", "maiden")


class Name(NamedTuple):
    """Parts of one name; empty where unknown."""

    family: str = ""
    given: str = ""


class _Written(NamedTuple):
    """One of a person's names, read once: it is looked at for kanji and for kana."""

    element: Element
    use: str
    script: str
    is_marked: bool
    """Whether it has extensions."""
    name: Name


def read_names(person: Element) -> tuple[Name, Name]:
    """The person's (kanji, kana). ElementError `required_field_missing` if there is neither."""
    written = []
    for each in person.all("name"):
        use = each.use
        if use != "old":
            name = _parts(each)
            if name.family or name.given:
                written.append(_written(each, use, name))
    kanji = _best(written, _KANJI, "official")
    kana = _best(written, _KANA, kanji.use if kanji else "official")
    if kanji is None and kana is None:
        raise person.wrong("name", "required_field_missing")
    return (kanji.name if kanji else Name()), (kana.name if kana else Name())


def _best(written: Sequence[_Written], script: str, use: str) -> _Written | None:
    """The name to take: in force before over; of `use`, so that a reading belongs to its kanji; by rank."""

    def order(each: _Written) -> tuple[bool, bool, int, bool]:
        rank = _USES.index(each.use) if each.use in _USES else len(_USES)
        return each.element.is_over, each.use != use, rank, not each.is_marked

    return best([each for each in written if each.script == script], order)


def _written(name: Element, use: str, parts: Name) -> _Written:
    extensions = name.all("extension")
    for extension in extensions:
        if extension.text("url") == REPRESENTATION:
            return _Written(name, use, extension.text("valueCode"), True, parts)
    return _Written(name, use, _KANJI, bool(extensions), parts)


def _parts(name: Element) -> Name:
    family, given = name.text("family"), " ".join(name.texts("given"))
    if family or given:
        return Name(family, given)
    words = name.text("text").split()  # split() knows the full-width space
    if len(words) == 2:
        return Name(*words)
    return Name(" ".join(words))
