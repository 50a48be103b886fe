"""The catalogue of reasons: what can go wrong, whose turn it is, and what to do, in Japanese and English.

A reason is a stable code plus parameters; it is stored and sent as such and turned into sentences only
where a person reads them. The catalogue is `reasons.yaml`, read once, at first use. It refuses to load if
a code stands twice, a text is missing, the languages disagree about parameters, or a reason that is the
user's does not name a place to act.

Parameters hold names of fields, codes and counts; never a person's data and never a secret.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from importlib.resources import files
from string import Formatter
from types import MappingProxyType

import yaml


class Owner(StrEnum):
    """Whose turn it is."""

    USER = "user"
    """The tenant's people: a setting, an entry, a decision."""
    PARTNER = "partner"
    """The partner's system or its network."""
    US = "us"
    """This platform: a rule of ours that waits, or a fault of ours."""
    UNKNOWN = "unknown"
    """Not classified yet. Never blamed on the user; it raises an alarm."""


class ReasonScope(StrEnum):
    """What the reason stops."""

    RECORD = "record"
    """The one record; its neighbours go on."""
    ENTITY = "entity"
    """Every record of its kind at this connection; the other kinds go on."""
    CONNECTION = "connection"
    """Every record of the connection."""


class Language(StrEnum):
    """The languages that every reason is written in."""

    JAPANESE = "ja"
    ENGLISH = "en"


@dataclass(frozen=True)
class Reason:
    """One entry of the catalogue. Texts hold `{parameter}` places."""

    code: str
    """snake_case; once released it keeps its meaning."""
    owner: Owner
    retried: bool
    """Whether we try again by ourselves, so that a person need not."""
    scope: ReasonScope
    message_ja: str
    action_ja: str
    message_en: str
    action_en: str

    @property
    def is_wait(self) -> bool:
        """Whether nothing is wrong: a rule of ours lets it go on later."""
        return self.retried and self.owner is Owner.US

    def texts(self, language: Language) -> tuple[str, str]:
        """Message and action as written, with their places open."""
        if language is Language.JAPANESE:
            return self.message_ja, self.action_ja
        return self.message_en, self.action_en

    def parameters(self, language: Language = Language.JAPANESE) -> frozenset[str]:
        """The names that its texts mention, the same in each language."""
        return frozenset(place for text in self.texts(language) for place in _places(text))


class UnknownReason(KeyError):  # noqa: N818  # it names what was met
    """The code is not in the catalogue."""


class CatalogueError(ValueError):
    """The catalogue breaks one of its rules; the message names the code and the rule."""


def reason(code: str) -> Reason:
    """The reason of that code. Raises UnknownReason."""
    try:
        return _catalogue()[code]
    except KeyError:
        raise UnknownReason(code) from None


def all_reasons() -> tuple[Reason, ...]:
    """Every reason, in the catalogue's order."""
    return tuple(_catalogue().values())


def explain(code: str, params: Mapping[str, str], language: Language = Language.JAPANESE) -> tuple[str, str]:
    """What happened and what to do next, as sentences.

    A parameter that is missing reads 不明 or "unknown", one too many is ignored. Raises UnknownReason.
    """
    message, action = reason(code).texts(language)
    filled = _Filled(params, "不明" if language is Language.JAPANESE else "unknown")
    return message.format_map(filled), action.format_map(filled)


def sentences(code: str, params: Mapping[str, str], language: Language = Language.ENGLISH) -> tuple[str, str]:
    """As `explain`, for any code that is stored: one that the catalogue lacks reads as an unknown error of its name."""
    try:
        return explain(code, params, language)
    except UnknownReason:
        return explain("unknown", {"detail": code}, language)


def load_reasons(text: str) -> Mapping[str, Reason]:
    """The catalogue written in `text` (YAML: a list of entries). Raises CatalogueError."""
    entries = yaml.safe_load(text)
    if not isinstance(entries, list):
        raise CatalogueError("the catalogue is a list of entries")
    catalogue: dict[str, Reason] = {}
    for entry in entries:
        found = _read(entry)
        if found.code in catalogue:
            raise CatalogueError(f"{found.code}: stands twice")
        catalogue[found.code] = found
    return MappingProxyType(catalogue)


@cache
def _catalogue() -> Mapping[str, Reason]:
    return load_reasons(files("partners").joinpath("reasons.yaml").read_text(encoding="utf-8"))


class _Filled(dict[str, str]):
    """Parameters that answer for a missing name as well."""

    def __init__(self, params: Mapping[str, str], missing: str) -> None:
        super().__init__(params)
        self._missing = missing

    def __missing__(self, name: str) -> str:
        return self._missing


_CODE = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")
_TEXTS = ("message_ja", "action_ja", "message_en", "action_en")
_FIELDS = frozenset(each.name for each in fields(Reason))


def _read(entry: object) -> Reason:
    if not isinstance(entry, dict) or not _CODE.fullmatch(str(entry.get("code"))):
        raise CatalogueError(f"an entry needs a code in snake_case: {entry!r}")
    code = entry["code"]
    _require(entry.keys() == _FIELDS, code, f"has exactly the fields {sorted(_FIELDS)}")
    _require(entry["owner"] in set(Owner), code, f"owner is one of {list(map(str, Owner))}")
    _require(entry["scope"] in set(ReasonScope), code, f"scope is one of {list(map(str, ReasonScope))}")
    _require(isinstance(entry["retried"], bool), code, "retried is true or false")
    for name in _TEXTS:
        _require(isinstance(entry[name], str) and bool(entry[name].strip()), code, f"{name} is a text")
    found = Reason(**{**entry, "owner": Owner(entry["owner"]), "scope": ReasonScope(entry["scope"])})
    _check_words(found)
    return found


def _check_words(found: Reason) -> None:
    japanese, english = found.parameters(Language.JAPANESE), found.parameters(Language.ENGLISH)
    _require(japanese == english, found.code, "both languages mention the same parameters")
    _require(all(map(str.isidentifier, japanese)), found.code, "a place is written {name} and no more")
    if found.owner is Owner.USER:
        names_place = "「" in found.action_ja and found.action_en.count('"') >= 2
        _require(names_place, found.code, "a user's action names the place to act, in 「」 and in quotes")


def _places(text: str) -> Iterable[str]:
    """What stands between braces, with any index, conversion or format left in, so that those are refused."""
    for _, name, specification, conversion in Formatter().parse(text):
        if name is not None:
            yield f"{name}{'!' if conversion else ''}{':' if specification else ''}"


def _require(holds: bool, code: str, rule: str) -> None:
    if not holds:
        raise CatalogueError(f"{code}: {rule}")
