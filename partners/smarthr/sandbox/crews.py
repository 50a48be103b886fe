"""The crews of a made-up corporation; the same number makes the same people.

Some are irregular on purpose: one has retired, one is absent, one has a business name, one no number.
"""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from partners.made_up_people import FAMILY_NAMES, FEMALE_NAMES, TRADES

Json = dict[str, Any]
_SAVED = datetime(2026, 4, 1, tzinfo=UTC)


def made_up(seed: int, staff: int) -> dict[str, Json]:
    """Crews by id, each saved some minutes after the one before."""
    draw = random.Random(seed)  # noqa: S311  # made-up people need no cryptographic chance
    crews = (_crew(draw, count) for count in range(1, staff + 1))
    return {crew["id"]: crew for crew in crews}


def spelled(moment: datetime) -> str:
    """A time as SmartHR writes it."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _crew(draw: random.Random, count: int) -> Json:
    (family, family_kana), (given, given_kana) = draw.choice(FAMILY_NAMES), draw.choice(FEMALE_NAMES)
    crew: Json = {
        "id": str(UUID(int=draw.getrandbits(128), version=4)),
        "emp_code": f"{count:05}",
        "emp_status": "employed",
        "last_name": family,
        "first_name": given,
        "last_name_yomi": family_kana,
        "first_name_yomi": given_kana,
        "business_last_name": "",
        "business_first_name": "",
        "business_last_name_yomi": "",
        "business_first_name_yomi": "",
        "entered_at": f"{draw.randrange(2005, 2026)}-04-01",
        "resigned_at": None,
        "positions": [{"id": f"position-{count % 3}", "name": ("主任", "一般", "管理者")[count % 3]}],
        "job_category": {"id": f"job-{count % len(TRADES)}", "name": TRADES[count % len(TRADES)]},
        "occupation": None,
        "tel_number": f"090-0000-{count:04}",
        "updated_at": spelled(_SAVED + timedelta(minutes=7 * count)),
    }
    match count % 10:
        case 3:
            crew |= {"emp_status": "retired", "resigned_at": "2025-03-31"}
        case 5:
            crew["emp_status"] = "absent"
        case 7:
            other, other_kana = draw.choice(FAMILY_NAMES)
            crew |= {"business_last_name": other, "business_last_name_yomi": other_kana}
        case 9:
            crew["emp_code"] = None
    return crew
