"""A person's names in kanji and kana.

JP Core sends two HumanName entries, told apart by the iso21090 extension and never by their order: IDE is
kanji, SYL is kana. ABC (Latin letters) is not kept. A name without the extension is taken as kanji. A name of
`use` old is never used.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from partners.fhir.elements import Element

REPRESENTATION = "http://hl7.org/fhir/StructureDefinition/iso21090-EN-representation"
_KANJI, _KANA = "IDE", "SYL"

# R4, NameUse. A maiden name was in use before a marriage, so it comes last.
_USES = ("official", "usual", "", "temp", "nickname", "anonymous", "maiden")


@dataclass(frozen=True)
class Name:
    """Parts of one name; empty where unknown."""

    family: str = ""
    given: str = ""


@dataclass(frozen=True)
class _Written:
    """One of a person's names, read once: it is looked at for kanji and for kana."""

    element: Element
    script: str
    name: Name


def read_names(person: Element) -> tuple[Name, Name]:
    """The person's (kanji, kana). ElementError `required_field_missing` if there is neither."""
    read = [(each, _parts(each)) for each in person.all("name") if each.use != "old"]
    written = [_Written(each, _script(each), name) for each, name in read if name.family or name.given]
    kanji = _best(written, _KANJI, "official")
    kana = _best(written, _KANA, kanji.element.use if kanji else "official")
    if kanji is None and kana is None:
        raise person.wrong("name", "required_field_missing")
    return (kanji.name if kanji else Name()), (kana.name if kana else Name())


def _best(written: Sequence[_Written], script: str, use: str) -> _Written | None:
    """The name to take: in force before over; of `use`, so that a reading belongs to its kanji; by rank."""

    def order(each: _Written) -> tuple[bool, bool, int, bool]:
        name = each.element
        return name.is_over, name.use != use, _rank(name), not name.all("extension")

    return min((each for each in written if each.script == script), key=order, default=None)


def _rank(name: Element) -> int:
    return _USES.index(name.use) if name.use in _USES else len(_USES)


def _script(name: Element) -> str:
    for extension in name.all("extension"):
        if extension.text("url") == REPRESENTATION:
            return extension.text("valueCode")
    return _KANJI


def _parts(name: Element) -> Name:
    family, given = name.text("family"), " ".join(name.texts("given"))
    if family or given:
        return Name(family, given)
    words = name.text("text").split()  # split() knows the full-width space
    if len(words) == 2:
        return Name(*words)
    return Name(" ".join(words))
