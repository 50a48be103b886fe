"""What each asset holds, as data frames for data engineers. Read by `zest_operator`, one tenant a transaction.

A frame has the columns and types that stand here, whether it has rows or not. Text is `string`, our ids too; a moment
is in UTC; a list, or what is itself a document, stands in an `object` column as it is. Nothing is a missing value (NA,
NaT, None); an empty text is one that the partner left empty.

pandas is imported when a frame is made: it costs half a second, and a run needs none of it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, get_type_hints

from partners.contract import MASTERS, Client, Entity, Staff
from resources.logins import Login
from zest_pipelines.core.weeks import Days
from zest_pipelines.store.classifications import told
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.history import MASTERS_AS_OF
from zest_pipelines.store.keys import Target
from zest_pipelines.store.masters import Scope
from zest_pipelines.store.query import Query, query

if TYPE_CHECKING:
    import pandas as pd

_TEXT, _NUMBER, _FLAG, _DOCUMENT = "string", "Int64", "boolean", "object"
_MOMENT, _DAY = "datetime64[us, UTC]", "datetime64[us]"
_CHUNK_ROWS = 10_000
"""Rows in Python's own objects at once: they weigh several times what the frame does."""

Columns = Mapping[str, tuple[str, str]]
"""Name to SQL expression and type in the frame."""


@dataclass(frozen=True)
class _Table:
    """The query behind a frame, and the types of its columns."""

    query: Query
    dtypes: Mapping[str, str]

    def read(self, tx: Transaction, /, **parameters: Any) -> pd.DataFrame:
        """All rows."""
        import pandas as pd

        statement = self.query.statement.execution_options(stream_results=True)
        chunks = [self._frame(rows) for rows in tx.execute(statement, parameters).partitions(_CHUNK_ROWS)]
        return pd.concat(chunks, ignore_index=True) if chunks else self._frame([])

    def _frame(self, rows: Sequence[Sequence[Any]]) -> pd.DataFrame:
        import pandas as pd

        columns = zip(*rows, strict=True) if rows else [()] * len(self.dtypes)
        return pd.DataFrame(
            {
                name: pd.Series(values, dtype=dtype)
                for (name, dtype), values in zip(self.dtypes.items(), columns, strict=True)
            }
        )


def _table(name: str, columns: Columns, source: str) -> _Table:
    """`source` is the statement from FROM on."""
    listed = ", ".join(f"{sql} AS {column}" for column, (sql, _) in columns.items())
    return _Table(
        query(f"frame_of_{name}", Login.OPERATOR, f"SELECT {listed} {source}"),
        {column: dtype for column, (_, dtype) in columns.items()},
    )


def _master_columns(master: type[Client | Staff]) -> Columns:
    """A master's own fields, out of the document `v.master`."""
    kinds = {bool: ("boolean", _FLAG), str: ("text", _TEXT), date | None: ("date", _DAY)}
    hints = get_type_hints(master)
    return {
        field.name: (f"CAST(v.master ->> '{field.name}' AS {kinds[hints[field.name]][0]})", kinds[hints[field.name]][1])
        for field in fields(master)
    }


_MASTER_COLUMNS = {Entity.CLIENT: _master_columns(Client), Entity.STAFF: _master_columns(Staff)}
_LANDED = {
    entity: _table(
        f"landed_{entity}",
        {
            "partner_id": ("v.partner_id", _TEXT),
            "landed_no": ("v.landed_no", _NUMBER),
            "landed_at": ("v.landed_at", _MOMENT),
            "partner_version": ("v.partner_version", _TEXT),
            "is_gone": ("v.fingerprint IS NULL", _FLAG),
            "problem": ("v.problem", _TEXT),
        }
        | dict(_MASTER_COLUMNS[entity]),
        """
        FROM (SELECT DISTINCT ON (partner_id) * FROM sync.landed_version
              WHERE tenant_id = :tenant AND partner = :partner AND entity = :entity
              ORDER BY partner_id, landed_no DESC) AS v
        ORDER BY v.partner_id
        """,
    )
    for entity in MASTERS
}
_PLANS = _table(
    "landed_plans",
    {
        "partner_id": ("p.partner_id", _TEXT),
        "record_id": ("CAST(i.record_id AS text)", _TEXT),
        "month": ("p.month", _DAY),
        "landed_no": ("p.landed_no", _NUMBER),
        "said_at": ("p.said_at", _TEXT),
        "landed_at": ("p.landed_at", _MOMENT),
        "line": ("CAST(s.line AS integer)", _NUMBER),
        "day": ("CAST(s.said ->> 'day' AS date)", _DAY),
        "starts": ("s.said ->> 'starts'", _TEXT),
        "ends": ("s.said ->> 'ends'", _TEXT),
        "service_code": ("s.said ->> 'service_code'", _TEXT),
        "count": ("CAST(s.said ->> 'count' AS integer)", _NUMBER),
    },
    """
    FROM (SELECT DISTINCT ON (month, partner_id) * FROM sync.landed_plan
          WHERE tenant_id = :tenant AND partner = :partner
          ORDER BY month, partner_id, landed_no DESC) AS p
    CROSS JOIN LATERAL jsonb_array_elements(p.services) WITH ORDINALITY AS s (said, line)
    LEFT JOIN sync.identity i ON i.tenant_id = p.tenant_id AND i.partner = p.partner AND i.entity = 'client'
        AND i.partner_id = p.partner_id AND i.valid_to IS NULL
    ORDER BY p.month, p.partner_id, s.line
    """,
)
_CHANGES = _table(
    "master_changes",
    {
        "partner_id": ("c.partner_id", _TEXT),
        "landed_no": ("c.landed_no", _NUMBER),
        "made_at": ("c.made_at", _MOMENT),
        "kind": ("c.kind", _TEXT),
        "fields": ("c.fields", _DOCUMENT),
        "problem": ("c.problem", _TEXT),
        "outcome": ("r.outcome", _TEXT),
        "reason": ("r.reason", _TEXT),
        "ended_at": ("r.made_at", _MOMENT),
        "record_id": ("CAST(r.record_id AS text)", _TEXT),
        "before": ("c.before", _DOCUMENT),
        "after": ("c.after", _DOCUMENT),
    },
    """
    FROM sync.master_change c
    LEFT JOIN LATERAL (
        SELECT * FROM sync.master_result r
        WHERE r.tenant_id = c.tenant_id AND r.partner = c.partner AND r.entity = c.entity
          AND r.partner_id = c.partner_id AND r.landed_no = c.landed_no
        ORDER BY r.result_no DESC LIMIT 1) AS r ON true
    WHERE c.tenant_id = :tenant AND c.partner = :partner AND c.entity = :entity
    ORDER BY c.landed_no
    """,
)
# A person who is known by two ids, one after the other, stands here with the one that holds now.
_APPLIED = {
    entity: _table(
        f"applied_{entity}",
        {
            "record_id": (f"CAST(m.{entity}_id AS text)", _TEXT),
            "version": ("m.version", _NUMBER),
            "partner_id": ("i.partner_id", _TEXT),
            "identified_at": ("i.valid_from", _MOMENT),
        }
        | {
            name: ("i.number" if name == "number" else f"m.{name}", dtype)
            for name, (_, dtype) in _MASTER_COLUMNS[entity].items()
        },
        f"""
        FROM sync.identity i
        JOIN schedule.{entity} m ON m.tenant_id = i.tenant_id AND m.{entity}_id = i.record_id
        WHERE i.tenant_id = :tenant AND i.partner = :partner AND i.entity = :entity AND i.valid_to IS NULL
        ORDER BY i.partner_id
        """,
    )
    for entity in MASTERS
}
_AS_OF = {
    entity: _table(
        f"{entity}_as_of",
        {
            "record_id": ("CAST(v.record_id AS text)", _TEXT),
            "partner_id": ("v.partner_id", _TEXT),
            "landed_no": ("v.landed_no", _NUMBER),
            "snapshot_id": ("CAST(v.snapshot_id AS text)", _TEXT),
            "read_at": ("v.read_at", _MOMENT),
            "applied_at": ("v.applied_at", _MOMENT),
            "is_gone": ("v.is_gone", _FLAG),
        }
        | dict(_MASTER_COLUMNS[entity]),
        MASTERS_AS_OF,
    )
    for entity in MASTERS
}
_VISIT_CHANGES = _table(
    "visit_changes",
    {
        "entity": ("c.entity", _TEXT),
        "record_id": ("CAST(c.record_id AS text)", _TEXT),
        "version": ("c.version", _NUMBER),
        "op": ("c.op", _TEXT),
        "on_date": ("c.on_date", _DAY),
        "client_id": ("CAST(c.client_id AS text)", _TEXT),
        "staff_id": ("CAST(c.staff_id AS text)", _TEXT),
        "edited_at": ("c.edited_at", _MOMENT),
        "made_at": ("c.made_at", _MOMENT),
        "image": ("c.image", _DOCUMENT),
    },
    """
    FROM sync.change c
    WHERE c.tenant_id = :tenant AND c.partner = :partner
    ORDER BY c.edited_at, c.entity, c.record_id, c.version
    """,
)
# Whole sets, sorted once each: a look-up a record in every month's partition takes ten times as long.
_PUSHED = _table(
    "pushed_visits",
    {
        "entity": ("c.entity", _TEXT),
        "record_id": ("CAST(c.record_id AS text)", _TEXT),
        "version": ("c.version", _NUMBER),
        "op": ("c.op", _TEXT),
        "on_date": ("c.on_date", _DAY),
        "edited_at": ("c.edited_at", _MOMENT),
        "state": ("coalesce(p.state, 'settled')", _TEXT),
        "outcome": ("r.outcome", _TEXT),
        "reason": (told("r"), _TEXT),
        "made_at": ("r.made_at", _MOMENT),
        "attempts": ("coalesce(sent.attempts, 0)", _NUMBER),
        "partner_id": ("s.partner_id", _TEXT),
        "partner_version": ("s.partner_version", _TEXT),
    },
    """
    FROM (SELECT DISTINCT ON (entity, record_id) * FROM sync.change
          WHERE tenant_id = :tenant AND partner = :partner
          ORDER BY entity, record_id, version DESC) AS c
    LEFT JOIN sync.pending p USING (tenant_id, partner, entity, record_id, version)
    LEFT JOIN (SELECT entity, record_id, partner_id, partner_version FROM sync.standing
               WHERE tenant_id = :tenant AND partner = :partner) AS s USING (entity, record_id)
    LEFT JOIN (
        SELECT DISTINCT ON (entity, record_id, version) entity, record_id, version, outcome, partner, reason, params,
               made_at FROM sync.result WHERE tenant_id = :tenant AND partner = :partner
        ORDER BY entity, record_id, version, result_no DESC) AS r USING (entity, record_id, version)
    LEFT JOIN (
        SELECT entity, record_id, version, count(*) AS attempts
        FROM sync.intent WHERE tenant_id = :tenant AND partner = :partner
        GROUP BY entity, record_id, version) AS sent USING (entity, record_id, version)
    WHERE c.on_date BETWEEN :first AND :last
    ORDER BY c.on_date, c.entity, c.record_id
    """,
)


def landed(tx: Transaction, scope: Scope) -> pd.DataFrame:
    """The newest landed version of each record, mapped to the product's fields; those are missing if it is gone or
    has a problem."""
    return _LANDED[scope.entity].read(tx, **scope.parameters())


def landed_plans(tx: Transaction, target: Target) -> pd.DataFrame:
    """What others have planned, as it was said last, a row a service: `plan:N/L` is `landed_no` and `line`."""
    return _PLANS.read(tx, **target.parameters())


def master_changes(tx: Transaction, scope: Scope) -> pd.DataFrame:
    """Every difference (取込差分), oldest first, with its newest result (取込結果)."""
    return _CHANGES.read(tx, **scope.parameters())


def applied(tx: Transaction, scope: Scope) -> pd.DataFrame:
    """The product's masters that come from the partner, with the partner's id of each."""
    return _APPLIED[scope.entity].read(tx, **scope.parameters())


def masters_as_of(tx: Transaction, scope: Scope, at: datetime) -> pd.DataFrame:
    """The product's masters as they were at a moment, inclusive, each with the reading (`snapshot_id`) that said so."""
    return _AS_OF[scope.entity].read(tx, at=at, **scope.parameters())


def visit_changes(tx: Transaction, target: Target) -> pd.DataFrame:
    """Every version that the partner has to receive (反映履歴), oldest first, with the edited row as a dict."""
    return _VISIT_CHANGES.read(tx, **target.parameters())


def pushed_visits(tx: Transaction, target: Target, days: Days | None = None) -> pd.DataFrame:
    """How each record's newest version stands, and what the partner has of the record; None: of all days.

    `made_at` is when the newest result came, `attempts` how often the version was sent.
    """
    first, last = (days.first, days.last) if days else (date.min, date.max)
    return _PUSHED.read(tx, first=first, last=last, **target.parameters())
