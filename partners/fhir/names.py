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


def read_names(person: Element) -> tuple[Name, Name]:
    """The person's (kanji, kana). ElementError `required_field_missing` if there is neither."""
    names = [name for name in person.all("name") if name.use != "old" and _parts(name) != Name()]
    kanji = _best(names, _KANJI, "official")
    kana = _best(names, _KANA, kanji.use if kanji else "official")
    if kanji is None and kana is None:
        raise person.wrong("name", "required_field_missing")
    return (_parts(kanji) if kanji else Name()), (_parts(kana) if kana else Name())


def _best(names: Sequence[Element], script: str, use: str) -> Element | None:
    """The name to take: in force before over; of `use`, so that a reading belongs to its kanji; by rank."""
    written = [name for name in names if _script(name) == script]

    def order(name: Element) -> tuple[bool, bool, int, bool]:
        return name.is_over, name.use != use, _rank(name), not name.all("extension")

    return min(written, key=order, default=None)


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
