"""Troubles over all tenants, alerts, and the notices of them. Written by `zest_alert`; targets by `zest_operator`.

What is read across tenants is opaque: no record, no person, no tenant's name goes into an alert.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from sqlalchemy import RowMapping

from partners.reasons import Owner
from resources.logins import Login
from zest_pipelines.core.alarm import Alert, Hours, Step, Trouble
from zest_pipelines.store.classifications import told
from zest_pipelines.store.database import Transaction
from zest_pipelines.store.errors import StoreError
from zest_pipelines.store.holds import OUTSIDE_WINDOW
from zest_pipelines.store.query import query

_LOOKING = 7_305_732  # advisory lock: one look at a time


@dataclass(frozen=True)
class Target:
    """Where notices go."""

    name: str
    sealed: bytes
    hours: Hours
    owners: frozenset[Owner]
    """Whose turn is told there."""


@dataclass(frozen=True)
class Notice:
    """Something to tell one target."""

    notice_id: int
    target: str
    kind: str
    """opened or recovered."""
    is_held: bool
    """Whether it is told together with others."""
    fingerprint: str
    partner: str
    reason: str
    detail: str
    records: int
    tenants: int
    first_at: datetime
    seen_at: datetime


@dataclass(frozen=True)
class AlertStatus:
    """An alert as people see it."""

    fingerprint: str
    partner: str
    reason: str
    detail: str
    records: int
    tenants: int
    first_at: datetime
    seen_at: datetime
    recovered_at: datetime | None
    unsent: int
    """Notices that are due, or were tried, and have not got through."""
    held: int
    """Notices whose hour has not come: of a digest, or in quiet hours."""
    failed_for: str | None
    """Why the last of them has not."""


_TOLD_OF_PENDING = "coalesce(w.code, p.reason)"
"""Of the pending row `p` and the newest word `w` on its cause: `told`, for many rows at once."""
_TOLD_OF_SUSPECT = "coalesce(w.code, s.suspect_reason)"
"""Of the standing `s`, the same."""
_TOLD_OF_HOLD = f"""CASE WHEN h.reason <> :closed THEN {told("h")}
         WHEN h.params ->> 'before' = 'unknown' THEN sync.told(h.partner, h.params) ELSE h.params ->> 'before' END"""
"""Of the hold `h`, the fault for which it is there; in closed hours that of before."""
_LATELY = "interval '15 minutes'"
"""Within it what failed was tried again, if it is to be tried at all: a reading after five minutes, a record at the
partner's opening."""


def _with_hold(row: str) -> str:
    """Join the hold `h` of the row's connection: in force, or over so lately that nothing may have been tried since."""
    return f"""LEFT JOIN sync.hold h ON h.tenant_id = {row}.tenant_id AND h.partner = {row}.partner
        AND h.lifted_at IS NULL AND h.until > clock_timestamp() - {_LATELY}"""


def _is_told(reason: str, since: str) -> str:
    """Whether what has stood still for that reason, since then, is trouble by the bounds `b`."""
    return f"""({reason} = ANY (CAST(:at_once AS text[]))
        OR ({reason} = ANY (CAST(:partners AS text[])) AND {since} < clock_timestamp() - b.partner_after)
        OR ({reason} = ANY (CAST(:users AS text[])) AND {since} < clock_timestamp() - b.users_after))"""


# Of what stands still for good or is in doubt: by cause, so that of ten thousand failures one row comes back.
# Indexes: the partial ones of what is stopped, suspect and open. An edit could go since nothing was awaited for it any
# more, the connection was resumed, and its last hold was over. What nobody has tried lately opens no alert.
def _troubles(*, by_tenant: bool) -> str:
    """What is wrong, a row a cause, or a row a cause and tenant."""
    by, also = ("1, 2, 3, 4", ", p.tenant_id") if by_tenant else ("1, 2, 3", "")

    def whose(row: str) -> str:
        return f"{row}.tenant_id AS tenant, " if by_tenant else ""

    return f"""
    SELECT {whose("p")}p.partner, {_TOLD_OF_PENDING} AS reason, sync.detail(p.params) AS detail, count(*) AS records,
           count(DISTINCT p.tenant_id) AS tenants, min(p.turned_at) AS since,
           bool_or(p.state IN ('parked', 'conflict') OR h.reason IS DISTINCT FROM :closed) AS may_open
    FROM sync.pending p
    LEFT JOIN sync.newest_word w ON w.fingerprint = p.cause
    {_with_hold("p")}
    CROSS JOIN sync.alert_bounds b
    WHERE p.state IN ('parked', 'conflict', 'retry', 'unknown') AND {_is_told(_TOLD_OF_PENDING, "p.turned_at")}
    GROUP BY {by}
    UNION ALL
    SELECT {whose("s")}s.partner, {_TOLD_OF_SUSPECT}, sync.detail(s.suspect_params), count(*),
           count(DISTINCT s.tenant_id), min(s.suspect_since),
           bool_or(s.suspect_state = 'parked' OR h.reason IS DISTINCT FROM :closed)
    FROM sync.standing s
    {_with_hold("s")}
    LEFT JOIN sync.newest_word w ON w.fingerprint = s.suspect_cause
    CROSS JOIN sync.alert_bounds b
    WHERE s.suspect_state IN ('retry', 'unknown', 'parked') AND {_is_told(_TOLD_OF_SUSPECT, "s.suspect_since")}
    GROUP BY {by}
    UNION ALL
    SELECT {whose("r")}r.partner, {told("r")}, sync.detail(r.params), count(*), count(DISTINCT r.tenant_id),
           min(r.made_at), true
    FROM sync.master_result r
    CROSS JOIN sync.alert_bounds b
    WHERE r.outcome IN ('rejected', 'held') AND {_is_told(told("r"), "r.made_at")}
      AND NOT EXISTS (
          SELECT FROM sync.master_result later
          WHERE later.tenant_id = r.tenant_id AND later.partner = r.partner AND later.entity = r.entity
            AND later.partner_id = r.partner_id AND (later.landed_no, later.result_no) > (r.landed_no, r.result_no))
    GROUP BY {by}
    UNION ALL
    SELECT {whose("h")}h.partner, {_TOLD_OF_HOLD}, sync.detail(h.params), count(*), count(DISTINCT h.tenant_id),
           min(h.since), bool_or(h.reason <> :closed)
    FROM sync.hold h
    CROSS JOIN sync.alert_bounds b
    WHERE h.lifted_at IS NULL AND h.until > clock_timestamp() - interval '1 hour' AND h.failures > 0
      AND {_is_told(_TOLD_OF_HOLD, "h.since")}
    GROUP BY {by}
    UNION ALL
    SELECT {whose("s")}s.partner, {told("s")}, sync.detail(s.params), count(*), count(DISTINCT s.tenant_id),
           min(first.at), bool_or(s.finished_at > clock_timestamp() - {_LATELY}
               OR (s.state = 'incomplete' AND s.finished_at > clock_timestamp() - c.land_every))
    FROM sync.connection c
    CROSS JOIN sync.alert_bounds b
    CROSS JOIN (VALUES ('client'), ('staff'), ('plan')) AS read (entity)
    CROSS JOIN LATERAL (
        SELECT n.tenant_id, n.partner, n.entity, n.state, n.reason, n.params, n.finished_at
        FROM sync.snapshot n
        WHERE n.tenant_id = c.tenant_id AND n.partner = c.partner AND n.entity = read.entity AND n.state <> 'reading'
        ORDER BY n.started_at DESC LIMIT 1) AS s
    CROSS JOIN LATERAL (
        SELECT min(bad.started_at) AS at FROM sync.snapshot bad
        WHERE bad.tenant_id = c.tenant_id AND bad.partner = c.partner AND bad.entity = s.entity
          AND bad.state IN ('failed', 'incomplete') AND bad.started_at > coalesce((
              SELECT good.started_at FROM sync.snapshot good
              WHERE good.tenant_id = c.tenant_id AND good.partner = c.partner AND good.entity = s.entity
                AND good.state = 'certified'
              ORDER BY good.started_at DESC LIMIT 1), '-infinity')) AS first
    WHERE s.state IN ('failed', 'incomplete') AND c.paused_at IS NULL AND {_is_told(told("s"), "first.at")}
    GROUP BY {by}
    UNION ALL
    SELECT {whose("p")}p.partner, :waiting, '', count(*), count(DISTINCT p.tenant_id),
           min(greatest(p.turned_at, c.resumed_at, h.until)), true
    FROM sync.alert_bounds b
    JOIN sync.pending p ON p.turned_at < clock_timestamp() - b.edits_after
    JOIN sync.connection c ON c.tenant_id = p.tenant_id AND c.partner = p.partner
    LEFT JOIN sync.hold h ON h.tenant_id = p.tenant_id AND h.partner = p.partner
    WHERE p.state = 'due' AND p.waits_for IS NULL AND c.paused_at IS NULL
      AND greatest(c.resumed_at, h.until, '-infinity') < clock_timestamp() - b.edits_after
    GROUP BY p.partner{also}
    """


_TROUBLES = query("troubles", Login.ALERT, _troubles(by_tenant=False))
_TROUBLES_OF_TENANTS = query("troubles_of_tenants", Login.ALERT, _troubles(by_tenant=True))
_LOCK = query("lock_alerts", Login.ALERT, "SELECT pg_advisory_xact_lock(:number)")
_OPEN = query(
    "open_alerts",
    Login.ALERT,
    "SELECT alert_id, fingerprint, seen_at, gone_at FROM sync.alert WHERE recovered_at IS NULL",
)
_OPENED = query(
    "open_alert",
    Login.ALERT,
    """
    INSERT INTO sync.alert (fingerprint, partner, reason, detail, records, tenants, first_at)
    VALUES (:fingerprint, :partner, :reason, :detail, :records, :tenants, :since) RETURNING alert_id
    """,
)
_SEEN = query(
    "alert_is_seen",
    Login.ALERT,
    """
    UPDATE sync.alert SET records = :records, tenants = :tenants, seen_at = clock_timestamp(), gone_at = NULL
    WHERE alert_id = :alert_id
    """,
)
_GONE = query(
    "alerts_are_gone", Login.ALERT, "UPDATE sync.alert SET gone_at = clock_timestamp() WHERE alert_id = ANY (:alerts)"
)
_RECOVERED = query(
    "alerts_have_recovered",
    Login.ALERT,
    "UPDATE sync.alert SET recovered_at = clock_timestamp() WHERE alert_id = ANY (:alerts)",
)
# Who was never told of the beginning is not told of the end.
_NOTIFY = query(
    "add_notice",
    Login.ALERT,
    """
    INSERT INTO sync.notice (alert_id, target, kind, not_before, is_held)
    SELECT :alert_id, :target, :kind, CAST(:not_before AS timestamptz), :is_held
    WHERE :kind = 'opened' OR EXISTS (
        SELECT FROM sync.notice n WHERE n.alert_id = :alert_id AND n.target = :target AND n.kind = 'opened')
    ON CONFLICT DO NOTHING
    """,
)
_TARGETS = query(
    "alert_targets",
    Login.ALERT,
    "SELECT name, sealed, quiet_from, quiet_to, digest_at, is_pierced, owners FROM sync.alert_target ORDER BY name",
)
# The end of an alert is told after its beginning, or with it.
_IS_DUE = """n.sent_at IS NULL AND n.not_before <= clock_timestamp() AND (n.kind = 'opened' OR NOT EXISTS (
                SELECT FROM sync.notice o
                WHERE o.alert_id = n.alert_id AND o.target = n.target AND o.kind = 'opened' AND o.sent_at IS NULL
                  AND NOT (n.is_held AND o.is_held AND o.not_before <= clock_timestamp())))"""
_HAS_DUE = query("has_due_notices", Login.ALERT, f"SELECT EXISTS (SELECT FROM sync.notice n WHERE {_IS_DUE})")
# What is taken is not due again for a while: whoever dies with it in hand loses it to the next one.
_TAKE = query(
    "take_notices",
    Login.ALERT,
    f"""
    WITH taken AS (
        UPDATE sync.notice SET attempts = attempts + 1, failed_for = NULL,
            not_before = clock_timestamp()
                + least(interval '1 minute' * power(2, least(attempts, 4)), interval '10 minutes')
        WHERE notice_id IN (
            SELECT n.notice_id FROM sync.notice n
            WHERE {_IS_DUE} AND n.target = :target AND n.is_held = :is_held
            ORDER BY n.attempts, n.notice_id LIMIT :most FOR UPDATE SKIP LOCKED)
        RETURNING notice_id, alert_id, target, kind, is_held)
    SELECT t.notice_id, t.target, t.kind, t.is_held, a.fingerprint, a.partner, a.reason, a.detail, a.records, a.tenants,
           a.first_at, a.seen_at
    FROM taken t JOIN sync.alert a USING (alert_id) ORDER BY t.notice_id
    """,
)
_SENT = query(
    "notices_are_sent",
    Login.ALERT,
    "UPDATE sync.notice SET sent_at = clock_timestamp(), failed_for = NULL WHERE notice_id = ANY (:notices)",
)
# What did not get through to a target that takes notices again is due at once; not what somebody has in hand.
_BACK = query(
    "target_is_back",
    Login.ALERT,
    """
    UPDATE sync.notice SET not_before = clock_timestamp()
    WHERE target = :target AND sent_at IS NULL AND failed_for IS NOT NULL AND not_before > clock_timestamp()
    """,
)
_FAILED = query(
    "notices_failed", Login.ALERT, "UPDATE sync.notice SET failed_for = :why WHERE notice_id = ANY (:notices)"
)
_ADD_TARGET = query(
    "add_alert_target",
    Login.OPERATOR,
    """
    INSERT INTO sync.alert_target (name, sealed, quiet_from, quiet_to, digest_at, is_pierced, owners)
    VALUES (:name, :sealed, :quiet_from, :quiet_to, :digest_at, :is_pierced, :owners)
    ON CONFLICT DO NOTHING RETURNING name
    """,
)
_REMOVE_TARGET = query(
    "remove_alert_target", Login.OPERATOR, "DELETE FROM sync.alert_target WHERE name = :name RETURNING name"
)
_BOUNDS = query("alert_bounds", Login.OPERATOR, "SELECT partner_after, edits_after, users_after FROM sync.alert_bounds")
_SET_BOUNDS = query(
    "set_alert_bounds",
    Login.OPERATOR,
    """
    UPDATE sync.alert_bounds
    SET partner_after = :partner_after, edits_after = :edits_after, users_after = :users_after
    """,
)
_LISTED = query(
    "alerts_listed",
    Login.OPERATOR,
    """
    SELECT a.fingerprint, a.partner, a.reason, a.detail, a.records, a.tenants, a.first_at, a.seen_at, a.recovered_at,
           n.unsent, n.held, n.failed_for
    FROM sync.alert a
    LEFT JOIN LATERAL (
        SELECT count(*) FILTER (WHERE NOT is_early) AS unsent, count(*) FILTER (WHERE is_early) AS held,
               max(failed_for) AS failed_for
        FROM (SELECT failed_for, attempts = 0 AND not_before > clock_timestamp() AS is_early FROM sync.notice
              WHERE alert_id = a.alert_id AND sent_at IS NULL) AS left_over) AS n ON true
    WHERE a.recovered_at IS NULL OR n.unsent + n.held > 0
       OR a.recovered_at > clock_timestamp() - CAST(:since AS interval)
    ORDER BY a.recovered_at IS NOT NULL, a.opened_at DESC
    """,
)


_REASON = query(
    "reason_of_alert",
    Login.OPERATOR,
    "SELECT a.reason FROM sync.alert a WHERE a.fingerprint = :fingerprint ORDER BY a.alert_id DESC LIMIT 1",
)


@dataclass(frozen=True)
class Wanted:
    """Which reasons are told, by when."""

    at_once: Sequence[str]
    partners: Sequence[str]
    """Once a connection, a reading or a record has stood still for longer than `Bounds.partner_after`."""
    users: Sequence[str]
    """The same for `Bounds.users_after`."""
    reason: str
    """Under which edits are told that could have gone for longer than `Bounds.edits_after`."""


@dataclass(frozen=True)
class Bounds:
    """How long something is wrong before it is told."""

    partner_after: timedelta
    edits_after: timedelta
    users_after: timedelta


def bounds(tx: Transaction) -> Bounds:
    """Those that hold."""
    return Bounds(**_BOUNDS.run(tx).mappings().one())


def set_bounds(tx: Transaction, wanted: Bounds) -> None:
    """From the next look on. Each is at least a minute."""
    _SET_BOUNDS.run(tx, **vars(wanted))


def troubles(tx: Transaction, wanted: Wanted) -> tuple[Trouble, ...]:
    """What is wrong now, over all tenants; one cause may stand in several."""
    return tuple(Trouble(**row) for row in _TROUBLES.all(tx, **_asked(wanted)))


def troubles_of_tenants(tx: Transaction, wanted: Wanted) -> tuple[tuple[str, Trouble], ...]:
    """The same by tenant; one cause of a tenant may stand in several."""
    rows = _TROUBLES_OF_TENANTS.all(tx, **_asked(wanted))
    return tuple((row["tenant"], Trouble(**{name: row[name] for name in row if name != "tenant"})) for row in rows)


def _asked(wanted: Wanted) -> dict[str, object]:
    return {
        "at_once": list(wanted.at_once),
        "partners": list(wanted.partners),
        "users": list(wanted.users),
        "waiting": wanted.reason,
        "closed": OUTSIDE_WINDOW,
    }


def open_alerts(tx: Transaction) -> tuple[Alert, ...]:
    """Those that have not recovered."""
    return tuple(Alert(**row) for row in _OPEN.all(tx))


def lock(tx: Transaction) -> None:
    """Until the transaction ends nobody else looks."""
    _LOCK.run(tx, number=_LOOKING)


Plan = Mapping[str, tuple[datetime, bool]]
"""By target, when a notice may be sent, and whether it is told together with others."""


def store(tx: Transaction, step: Step, opened: Callable[[Trouble], Plan], recovered: Plan) -> None:
    """Store what became of alerts, and a notice of each beginning and end for each target of its plan."""
    planned = [("opened", _open(tx, each), opened(each)) for each in step.opened]
    planned += [("recovered", each, recovered) for each in step.recovered]
    for alert, trouble in step.seen.items():
        _SEEN.run(tx, alert_id=alert, records=trouble.records, tenants=trouble.tenants)
    if step.gone:
        _GONE.run(tx, alerts=list(step.gone))
    if step.recovered:
        _RECOVERED.run(tx, alerts=list(step.recovered))
    for kind, alert, plan in planned:
        for target, (not_before, is_held) in plan.items():
            _NOTIFY.run(tx, alert_id=alert, target=target, kind=kind, not_before=not_before, is_held=is_held)


def targets(tx: Transaction) -> tuple[Target, ...]:
    """Where notices go, by name."""
    return tuple(map(_target, _TARGETS.all(tx)))


def has_due(tx: Transaction) -> bool:
    """Whether a notice waits to be sent now."""
    found: bool = _HAS_DUE.run(tx).scalar_one()
    return found


def take(tx: Transaction, target: str, *, is_held: bool, most: int) -> tuple[Notice, ...]:
    """Notices to be sent now, oldest first; they are not due again before their next try."""
    return tuple(Notice(**row) for row in _TAKE.all(tx, target=target, is_held=is_held, most=most))


def sent(tx: Transaction, notices: Sequence[Notice]) -> None:
    """They got through, so their targets take notices."""
    _SENT.run(tx, notices=[each.notice_id for each in notices])
    for target in sorted({each.target for each in notices}):
        _BACK.run(tx, target=target)


def failed(tx: Transaction, notices: Sequence[Notice], why: str) -> None:
    """They did not; they are tried again. `why` quotes nothing of the address."""
    _FAILED.run(tx, notices=[each.notice_id for each in notices], why=why)


def add_target(tx: Transaction, target: Target) -> None:
    """StoreError if the name is taken."""
    hours = vars(target.hours)
    if not _ADD_TARGET.column(tx, name=target.name, sealed=target.sealed, owners=sorted(target.owners), **hours):
        raise StoreError(f"there is a target {target.name} already: remove it first, or choose another name")


def remove_target(tx: Transaction, name: str) -> None:
    """With its notices that were not sent. StoreError if there is none of that name."""
    if not _REMOVE_TARGET.column(tx, name=name):
        raise StoreError(f"there is no target {name}: zest alerts targets lists them")


def reason_of(tx: Transaction, fingerprint: str) -> str | None:
    """For what the newest alert of that fingerprint was; None: there was none."""
    row = _REASON.one(tx, fingerprint=fingerprint)
    return None if row is None else str(row["reason"])


def listed(tx: Transaction, since: timedelta) -> tuple[AlertStatus, ...]:
    """Open alerts, those with notices still to be sent, and those that recovered within `since`; newest first."""
    return tuple(AlertStatus(**row) for row in _LISTED.all(tx, since=since))


def _open(tx: Transaction, trouble: Trouble) -> int:
    named = {name: value for name, value in vars(trouble).items() if name != "may_open"}
    made: int = _OPENED.run(tx, **named, fingerprint=trouble.fingerprint).scalar_one()
    return made


def _target(row: RowMapping) -> Target:
    hours = Hours(row["quiet_from"], row["quiet_to"], row["digest_at"], row["is_pierced"])
    return Target(row["name"], bytes(row["sealed"]), hours, frozenset(map(Owner, row["owners"])))
