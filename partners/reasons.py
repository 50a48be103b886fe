"""The catalogue of reasons: what can go wrong, whose turn it is, and what to do, in Japanese and English.

A reason is a stable code plus parameters; it is stored and sent as such and turned into sentences only
where a person reads them. The catalogue is `reasons.yaml`, read once, at first use. It refuses to load if
a code stands twice, a text is missing or too long for a badge, the languages disagree about parameters, or a
text leaves out what its owner's reasons have to say (`_WORDINGS`).

Parameters hold names of fields, codes and counts; never a person's data and never a secret. `{reference}` is filled by
whoever renders (`core.reference`): it is no parameter of what happened, and not stored.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields
from enum import StrEnum
from functools import cache
from importlib.resources import files
from string import Formatter
from types import MappingProxyType

import yaml

from partners.params import shown


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


class Severity(StrEnum):
    """How loudly it is to be told."""

    INFORMATION = "information"
    """Nothing is wrong: it waits for its turn, or is settled."""
    WARNING = "warning"
    """It goes on by itself, or was done with a remark; somebody should know."""
    ERROR = "error"
    """It stands until somebody acts."""


class Retrying(StrEnum):
    """Whether trying again is safe and who does it."""

    AUTOMATIC = "automatic"
    """We do it by ourselves; nobody need act."""
    BY_HAND = "by_hand"
    """Safe at any time, but we do not by ourselves; of what is settled nothing is left to try."""
    AFTER_CHANGE = "after_change"
    """Useless before the named thing is changed."""
    AFTER_LOOK = "after_look"
    """Not before somebody has looked at the partner's screen, or at what is held."""


REFERENCE = "reference"
"""The place for the number that support asks for."""


@dataclass(frozen=True)
class Reason:
    """One entry of the catalogue. Texts hold `{parameter}` places."""

    code: str
    """snake_case; once released it keeps its meaning."""
    owner: Owner
    severity: Severity
    retry: Retrying
    scope: ReasonScope
    message_ja: str
    action_ja: str
    message_en: str
    action_en: str

    @property
    def retried(self) -> bool:
        """Whether we try again by ourselves, so that a person need not."""
        return self.retry is Retrying.AUTOMATIC

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
        """The names that its texts mention and the place where it happened has to give; the same in each language."""
        return self.places(language) - {REFERENCE}

    def places(self, language: Language = Language.JAPANESE) -> frozenset[str]:
        """These, and REFERENCE if its texts ask to tell it."""
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


def explain(
    code: str, params: Mapping[str, str], language: Language = Language.JAPANESE, missing: str = ""
) -> tuple[str, str]:
    """What happened and what to do next, as sentences.

    Fields of the product read as care staff call them (`params`). A parameter that is missing reads `missing`, without
    that 不明 or "unknown"; one too many is ignored. Raises UnknownReason.
    """
    message, action = reason(code).texts(language)
    given = {name: shown(name, value, language) for name, value in params.items()}
    filled = _Filled(given, missing or ("不明" if language is Language.JAPANESE else "unknown"))
    return message.format_map(filled), action.format_map(filled)


def sentences(
    code: str, params: Mapping[str, str], reference: str, language: Language = Language.ENGLISH, missing: str = ""
) -> tuple[str, str]:
    """As `explain`, for any code that is stored: one that the catalogue lacks reads as an unknown error of its name.

    `reference`: what support can find it by (`core.reference`).
    """
    try:
        return explain(code, {**params, REFERENCE: reference}, language, missing)
    except UnknownReason:
        return explain("unknown", {"detail": code, REFERENCE: reference}, language)


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
    _require(entry["severity"] in set(Severity), code, f"severity is one of {list(map(str, Severity))}")
    _require(entry["retry"] in set(Retrying), code, f"retry is one of {list(map(str, Retrying))}")
    for name in _TEXTS:
        _require(isinstance(entry[name], str) and bool(entry[name].strip()), code, f"{name} is a text")
    kinds = {"owner": Owner, "severity": Severity, "retry": Retrying, "scope": ReasonScope}
    found = Reason(**{**entry, **{name: kind(entry[name]) for name, kind in kinds.items()}})
    _check_kinds(found)
    _check_words(found)
    return found


def _check_kinds(found: Reason) -> None:
    if found.owner is Owner.USER:
        _require(found.severity is not Severity.INFORMATION, found.code, "what a user has to do is no mere information")
    if found.owner is Owner.UNKNOWN:
        _require(found.severity is Severity.ERROR, found.code, "what nobody has classified is an error")
        _require(not found.retried, found.code, "what nobody has classified is not retried by itself")


def _check_words(found: Reason) -> None:
    japanese, english = found.places(Language.JAPANESE), found.places(Language.ENGLISH)
    _require(japanese == english, found.code, "both languages mention the same parameters")
    _require(all(map(str.isidentifier, japanese)), found.code, "a place is written {name} and no more")
    for language in Language:
        message, action = found.texts(language)
        longest, stop = _LONGEST[language], _STOP[language]
        _require(len(message) <= longest[0], found.code, f"message_{language} has at most {longest[0]} characters")
        _require(len(action) <= longest[1], found.code, f"action_{language} has at most {longest[1]} characters")
        _require(message.endswith(stop) and action.endswith(stop), found.code, f"a {language} text ends with {stop}")
    for applies, rule, japanese_word, english_word in _WORDINGS:
        if applies(found):
            says = re.search(japanese_word, found.action_ja) and re.search(english_word, found.action_en)
            _require(says is not None, found.code, rule)
    if found.owner is Owner.USER:
        met = _JARGON.search(" ".join(getattr(found, name) for name in _TEXTS))
        _require(met is None, found.code, f"a user is not told of {met and met.group()}")


_LONGEST = {Language.JAPANESE: (60, 110), Language.ENGLISH: (140, 200)}
"""Characters of a message and of an action that a badge has room for, places as they are written; inclusive."""
_STOP = {Language.JAPANESE: "。", Language.ENGLISH: "."}
_JARGON = re.compile(
    r"(?i:(?<![a-z])(?:HTTPS?|JSON|XML|SQL|TLS|DNS|null|exceptions?|time-?outs?|tracebacks?|pars(?:e|er|ing))(?![a-z]))"
    r"|(?i:status code|payload)|例外|タイムアウト|パース|ステータスコード|ペイロード"
)
"""What the people of a tenant cannot be expected to know."""
_WORDINGS: tuple[tuple[Callable[[Reason], bool], str, str, str], ...] = (
    (
        lambda each: each.owner is Owner.USER,
        "a user's action names the place to act, in 「」 and in quotes",
        "「.+?」",
        '".+?"',
    ),
    (
        lambda each: each.owner is Owner.USER,
        "a user's action says how it goes on when that is done",
        "自動で|次の取込|「再送」|「反映済みにする」|「再開」|もう一度実行|サポートに",
        r'\bby (itself|themselves)\b|next import|"Send again"|"Mark as delivered"|"Resume"|launch it again|support',
    ),
    (
        lambda each: each.owner is Owner.PARTNER and each.retried,
        "a partner's action says that we go on by ourselves",
        "自動で",
        r"\b(our|it|them)sel(f|ves)\b",
    ),
    (
        lambda each: each.owner is Owner.PARTNER and each.retried,
        "a partner's action says what to try by hand, and when",
        "再送」|手で",
        '"Send again"|by hand',
    ),
    (
        lambda each: each.owner in (Owner.US, Owner.UNKNOWN) and each.severity is Severity.ERROR,
        "the action of what is ours or unknown asks to tell support the {reference}",
        "{reference}.*サポート",
        "support.*{reference}",
    ),
)
"""What an action has to say: of whom, the rule, and the words by which it is seen in Japanese and in English."""


def _places(text: str) -> Iterable[str]:
    """What stands between braces, with any index, conversion or format left in, so that those are refused."""
    for _, name, specification, conversion in Formatter().parse(text):
        if name is not None:
            yield f"{name}{'!' if conversion else ''}{':' if specification else ''}"


def _require(holds: bool, code: str, rule: str) -> None:
    if not holds:
        raise CatalogueError(f"{code}: {rule}")
