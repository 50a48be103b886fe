"""How a reason's parameters read to people: fields of the product by the names that care staff know them by.

What is stored and sent stays technical; this is for sentences alone. The words are in `params.yaml`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from types import MappingProxyType

import yaml

FIELDS = frozenset({"field", "fields"})
"""The parameters that hold names of fields, with commas between them."""
PHRASES = frozenset({"why", "approved"})
"""Those that hold numbers with words of ours."""
_LANGUAGES = ("ja", "en")


@dataclass(frozen=True)
class Phrase:
    """What of ours is found in a text, and how it reads."""

    pattern: re.Pattern[str]
    reads: Mapping[str, str]


def shown(name: str, value: str, language: str) -> str:
    """The value of that parameter, for a sentence in that language (`ja`, `en`)."""
    comma = "、" if language == "ja" else ", "
    if name in FIELDS:
        return comma.join(_field(each, language) for each in value.split(", "))
    if name in PHRASES:
        for phrase in _words().phrases:
            value = phrase.pattern.sub(lambda found, reads=phrase.reads: _read(found, reads[language], language), value)  # type: ignore[misc]
        return value.replace(", ", comma)
    return value


def fields() -> Mapping[str, Mapping[str, str]]:
    """The product's fields, with their name in each language."""
    return _words().fields


@dataclass(frozen=True)
class _Words:
    fields: Mapping[str, Mapping[str, str]]
    phrases: tuple[Phrase, ...]


def load(text: str) -> _Words:
    """What is written so. ValueError if something lacks a language."""
    told = yaml.safe_load(text)
    for each in (*told["fields"].values(), *told["phrases"]):
        if not all(each.get(language) for language in _LANGUAGES):
            raise ValueError(f"it has no name in one of {_LANGUAGES}: {each}")
    phrases = tuple(Phrase(re.compile(each["pattern"]), each) for each in told["phrases"])
    return _Words(MappingProxyType(told["fields"]), phrases)


@cache
def _words() -> _Words:
    return load(files("partners").joinpath("params.yaml").read_text(encoding="utf-8"))


def _field(name: str, language: str) -> str:
    known = _words().fields.get(name)
    return name if known is None else known[language]


def _read(found: re.Match[str], reads: str, language: str) -> str:
    said = {name: _field(value, language) if name == "field" else value for name, value in found.groupdict().items()}
    return reads.format_map(said)
