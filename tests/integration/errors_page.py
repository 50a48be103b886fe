"""`docs/errors.md`: the catalogue of reasons as a page, with the tests that bring each reason about.

Run this module to write it anew where a reason, or what is seen of it, has changed.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from evidence import evidence

from partners.reasons import Language, Owner, Reason, ReasonScope, Retrying, Severity, all_reasons
from zest_pipelines.core.reference import ALPHABET, LENGTH, reference

FILE = Path(__file__).parents[2] / "docs" / "errors.md"
COMMAND = "make errors"
_MOST_TESTS = 3
_OWNERS = {
    Owner.USER: ("The tenant's people", "お客様", "A setting, an entry or a decision; the action names the place."),
    Owner.PARTNER: (
        "The partner",
        "連携先",
        "The partner's system or its network; we go on by ourselves where we can.",
    ),
    Owner.US: ("This platform", "ZEST SCHEDULE", "A rule of ours that waits, or a fault of ours."),
    Owner.UNKNOWN: ("Not known yet", "不明", "Never blamed on the user; it raises an alarm."),
}
_SEVERITIES = {
    Severity.INFORMATION: "nothing is wrong: it waits for its turn, or is settled",
    Severity.WARNING: "it goes on by itself, or was done with a remark; somebody should know",
    Severity.ERROR: "it stands until somebody acts",
}
_RETRIES = {
    Retrying.AUTOMATIC: "we do it by ourselves; nobody need act",
    Retrying.BY_HAND: "safe at any time, but we do not by ourselves; of what is settled nothing is left to try",
    Retrying.AFTER_CHANGE: "useless before the named thing is changed",
    Retrying.AFTER_LOOK: "not before somebody has looked at the partner's screen, or at what is held",
}
_SCOPES = {
    ReasonScope.RECORD: "one record; its neighbours go on",
    ReasonScope.ENTITY: "every record of its kind at this connection",
    ReasonScope.CONNECTION: "every record of the connection",
}
_A_RECORD = ("sakura", "fhir", "visit", "0b6f3c1e-58d2-4d7a-9a51-6b7de1f3a001")
_REFERENCE = f"""\
`{{reference}}` is the number that support asks for: of a record at a connection, or of a connection as a whole. It is
derived from ids and stored nowhere; the board fills it in, and `zest explain` prints it. Who shows the sentences of
`sync.reason` fills it in too: the SHA-256 of tenant, partner and, of a record, its entity and id (of what came from the
partner, `landed:` and its number), in UTF-8 with line feeds between them, is taken as one big-endian number and divided
{LENGTH} times by {len(ALPHABET)}; each remainder in turn is a place, counted from 0, in `{ALPHABET}`.

`{{field}}` and `{{fields}}` are fields of the product, which the board and the commands show by the names in
`sync.field` (`note`: 備考, Note), or places at the partner, as it calls them. Whoever shows the sentences of
`sync.reason` looks there too. JSON keeps the field.

| of | number |
|---|---|
| `{" ".join(_A_RECORD)}` | `{reference(*_A_RECORD)}` |
| `{" ".join(_A_RECORD[:2])}` | `{reference(*_A_RECORD[:2])}` |"""


def page(reasons: Sequence[Reason], seen: Mapping[str, Sequence[str]]) -> str:
    """The page's text. `seen`: by code, the tests that bring it about."""
    return "\n".join([*_head(reasons), *(line for owner in Owner for line in _section(owner, reasons, seen))])


def _head(reasons: Sequence[Reason]) -> Iterator[str]:
    yield "# Errors and what to do about them"
    yield ""
    yield f"Written by `{COMMAND}` from `partners/reasons.yaml`; a test says when it is stale. Each reason that a"
    yield f"badge, a check, a command or the board gives is one of these {len(reasons)}. How one is added:"
    yield "[CONTRIBUTING.md](../CONTRIBUTING.md). What the tenant's people are told to do is done to the letter in"
    yield "[test_fixes](../tests/integration/test_fixes.py), and turns ok."
    yield ""
    for owner, (english, japanese, about) in _OWNERS.items():
        count = sum(each.owner is owner for each in reasons)
        yield f"- [{english} / {japanese}](#{_anchor(owner)}) ({count}). {about}"
    for title, field, words in (
        ("Severity", "severity", _SEVERITIES),
        ("Trying again", "retry", _RETRIES),
        ("What it stops", "scope", _SCOPES),
    ):
        yield ""
        yield f"| {title} | | reasons |"
        yield "|---|---|---:|"
        for kind, word in words.items():
            yield f"| {_plain(kind)} | {word} | {sum(getattr(each, field) is kind for each in reasons)} |"
    yield ""
    yield _REFERENCE


def _section(owner: Owner, reasons: Sequence[Reason], seen: Mapping[str, Sequence[str]]) -> Iterator[str]:
    english, japanese, _ = _OWNERS[owner]
    yield ""
    yield f"## {english} / {japanese}"
    yield ""
    yield "| Reason | What is told | What to do |"
    yield "|---|---|---|"
    for each in (each for each in reasons if each.owner is owner):
        (message_ja, action_ja), (message_en, action_en) = (each.texts(language) for language in Language)
        facts = f"{_plain(each.severity)}; {_plain(each.retry)}; stops {_plain(each.scope)}"
        tests = _tests(seen.get(each.code, ()))
        yield _row(
            f'<a id="{each.code}"></a>`{each.code}`<br>{facts}<br><sub>{tests}</sub>',
            f"{message_ja}<br>{message_en}",
            f"{action_ja}<br>{action_en}",
        )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _tests(found: Sequence[str]) -> str:
    """The files of the tests, each with how many in it; linked."""
    files = [(file, len(list(tests))) for file, tests in groupby(found, lambda test: test.partition("::")[0])]
    shown = [f"[{Path(file).stem}](../tests/{file}){f' ({count})' if count > 1 else ''}" for file, count in files]
    more = f" and {len(shown) - _MOST_TESTS} more" if len(shown) > _MOST_TESTS else ""
    return ", ".join(shown[:_MOST_TESTS]) + more


def _plain(kind: str) -> str:
    return kind.replace("_", " ")


def _anchor(owner: Owner) -> str:
    english, japanese, _ = _OWNERS[owner]
    text = f"{english} / {japanese}".lower()
    return "".join(letter for letter in text if letter.isalnum() or letter in " -_").replace(" ", "-")


if __name__ == "__main__":
    FILE.write_text(page(all_reasons(), evidence()) + "\n", encoding="utf-8")
    sys.stdout.write(f"{FILE} is written\n")
