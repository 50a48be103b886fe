"""The one spelling of a value in which two ways to write the same are equal: to compare and to match, never to keep.

What is stored and shown is what the partner wrote. docs/inbound.md states the forms field by field. In doubt two values
differ: 髙 is not 高, ッ is not ツ, オオノ is not オーノ, and a phone number with words beside it is those words too.
Widths are folded where they are no more than that. NFKC as a whole would fold a name's own character.

Refused is what no database takes: NUL and lone surrogates.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

from zest_pipelines.core.composition import composed
from zest_pipelines.core.fingerprint import UnstorableText
from zest_pipelines.core.written_dates import iso_date

# Half and full widths, the ideographic space, and the radicals of Kangxi, which PDFs give for the very characters.
_WIDTHS = re.compile("[\uff00-\uffef\u3000\u2f00-\u2fdf]+")
_KANA = "\u3099\u309a\u30a1-\u30fa\u30fc-\u30fe\u31f0-\u31ff"
_JAPANESE = "\u3005-\u3007\u3041-\u309f\u30a0-\u30ff\u31f0-\u31ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_JAPANESE += "\ufe00-\ufe0f\U000e0100-\U000e01ef\U00020000-\U0003347f"  # with the marks that choose a variant
_SPACE = "\\s\u200b\u2060\ufeff"
_DASH = "\\-\u2010-\u2015\u2212\u2500\u2501\ufe58\ufe63"
_SPACES = re.compile(f"[{_SPACE}]+")
_BESIDE_JAPANESE = re.compile(f"(?<=[{_JAPANESE}])[{_SPACE}]+|[{_SPACE}]+(?=[{_JAPANESE}])")
_LONG_VOWELS = re.compile(f"(?<=[{_KANA}])(?:[{_SPACE}]*[{_DASH}])+")
_DASHES = re.compile(f"[{_DASH}]")
_KATAKANA = {code: code + 0x60 for code in (*range(0x3041, 0x3097), 0x309D, 0x309E)}
_MARKS = {0x309B: 0x3099, 0x309C: 0x309A}  # ゛ and ゜ of their own join the kana before them
_BETWEEN_DIGITS = re.compile(f"[{_SPACE}{_DASH}\u30fc]")
_NUMBER = re.compile(r"\+?[0-9]{3,15}")


def name(text: str) -> str:
    """A name: widths folded, no space beside a Japanese character, one between others. Hiragana and case stay."""
    return composed(_unspaced(_letters(text)))


def kana(text: str) -> str:
    """A name's reading: as a name, in full-width katakana, a dash after a kana as ー."""
    katakana = composed(_letters(text).translate(_KATAKANA | _MARKS))
    long = _LONG_VOWELS.sub(lambda found: "ー" * len(_DASHES.findall(found[0])), katakana)
    return composed(_unspaced(long))


def postal_code(text: str) -> str | None:
    """Seven digits; None: it is no Japanese postal code."""
    digits = _BETWEEN_DIGITS.sub("", _letters(text)).replace("〒", "")
    return digits if re.fullmatch("[0-9]{7}", digits) else None


def phone(text: str) -> str | None:
    """Digits, with the + and country of another country than Japan; None: there is more in it than one number."""
    digits = re.sub("[().]", "", _BETWEEN_DIGITS.sub("", _letters(text)))
    if digits.startswith("+81"):
        digits = "0" + digits[3:].removeprefix("0")  # +81 (0)3 is written too
    return digits if _NUMBER.fullmatch(digits) else None


def birth_date(text: str) -> str | None:
    """As `iso_date`, of a text that can be stored."""
    return iso_date(_stored(text))


FORMS: Mapping[str, Callable[[str], str | None]] = {
    "family_name": name,
    "given_name": name,
    "family_kana": kana,
    "given_kana": kana,
    "birth_date": birth_date,
    "postal_code": postal_code,
    "phone": phone,
}
"""By a master's field. What is not here means what its letters are."""


def normal(field: str, text: str) -> str:
    """The normal form of a field's text; one that the form does not know stays as it is. Raises UnstorableText."""
    form = FORMS.get(field)
    known = form(text) if form else None
    # No unknown text is any other's form: what looks like a form has that very form.
    return composed(_stored(text)) if known is None else known


def is_same(field: str, one: Any, other: Any) -> bool:
    """Whether two values of a field mean the same, however they are spelled."""
    if one == other or not (isinstance(one, str) and isinstance(other, str)):
        return bool(one == other)
    return normal(field, one) == normal(field, other)


def _stored(text: str) -> str:
    """The text. UnstorableText, which does not hold it, for what no database takes."""
    if "\0" in text:
        raise UnstorableText("", "holds a NUL character")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise UnstorableText("", "holds half of a surrogate pair")
    return text


def _letters(text: str) -> str:
    """The text without differences of width and composition."""
    return composed(_WIDTHS.sub(lambda wide: unicodedata.normalize("NFKC", wide[0]), _stored(text)))


def _unspaced(text: str) -> str:
    return _SPACES.sub(" ", _BESIDE_JAPANESE.sub("", text)).strip(" ")
