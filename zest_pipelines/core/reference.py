"""The number that people tell support: of a record at a connection, of a whole connection, or of a fault in a command.

It is derived from the ids and stored nowhere: who has the ids has the number, whoever renders a sentence fills it in,
and of a number that was read out the record is found by deriving those of a tenant's records. It tells nothing of the
ids that it is made of, so it can stand in a mail or be said on the telephone.
"""

from __future__ import annotations

from hashlib import sha256

About = tuple[str, str]
"""A connection: tenant, partner."""

ALPHABET = "34679CDFGHJKMNPQRTWXY"
"""None that looks like another (0O, 1IL, 2Z, 5S, 8B, UV), and no vowel, so that no word comes of it."""
LENGTH = 8


def reference(*about: str) -> str:
    """LENGTH characters of ALPHABET; the same for the same `about` in the same order.

    Of a record: tenant, partner, entity, record id. Of a connection: tenant, partner. Of what concerns neither: the
    words that tell it apart. Among a million records some 13 pairs share one: it finds a few, not always one.
    """
    rest = int.from_bytes(sha256("\n".join(about).encode()).digest())
    told = ""
    for _ in range(LENGTH):
        rest, place = divmod(rest, len(ALPHABET))
        told += ALPHABET[place]
    return told
