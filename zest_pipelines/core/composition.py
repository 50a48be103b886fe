"""One composition of a text, in which every character of a name stays the one that was written.

Unicode's own composition (NFC) also replaces the compatibility ideographs: the 神 (U+FA19) of a name becomes 神
(U+795E), though its owner writes the other one, and a partner's correction from one to the other would never be seen.
"""

from __future__ import annotations

import re
import unicodedata

_IDEOGRAPHS = re.compile("([\uf900-\ufaff\U0002f800-\U0002fa1f]+)")


def composed(text: str) -> str:
    """The text with が in one code point, however it came (Macs send two), and every ideograph as it came."""
    if unicodedata.is_normalized("NFC", text):
        return text
    parts = _IDEOGRAPHS.split(text)  # every second one is of ideographs
    return "".join(part if index % 2 else unicodedata.normalize("NFC", part) for index, part in enumerate(parts))
