"""alerts: what is wrong over all tenants becomes one alert a cause, and each beginning and end one notice a target.

An alert and its notices change in one transaction, so none is lost and none is made twice. A notice is taken, sent with
no transaction open, and then noted as sent; whoever dies in between leaves it to the next one, so a notice may come
twice, and bears a number by which that is seen.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import cache

from partners.reasons import Language, Owner, Severity, all_reasons, reason, sentences
from partners.windows import JAPAN
from resources.alerting import deliver
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.core.alarm import IDENTIFYING, Step, Trouble, folded, send_at, step
from zest_pipelines.flows.places import place_of
from zest_pipelines.flows.services import Services
from zest_pipelines.store import alerts
from zest_pipelines.store.alerts import Notice, Plan, Target, Wanted
from zest_pipelines.store.database import Database, Transaction

_log = logging.getLogger(__name__)

CALM = timedelta(minutes=5)
"""So long a cause has to stay away before its alert has recovered."""
_ONE_BY_ONE, _TOGETHER = 10, 50
"""Notices of one target in one round: each in a message, and in one message."""

_URGENT = (Owner.US, Owner.UNKNOWN)

Deliver = Callable[[str, str, str], bool]


@dataclass(frozen=True)
class Sent:
    """What became of the notices of a round."""

    sent: int = 0
    failed: int = 0


def is_wanted(database: Database, now: datetime, extra: Sequence[Trouble] = ()) -> bool:
    """Whether there is anything to store or to send. Raises StoreError."""
    with database.transaction(Login.ALERT, None) as tx:
        return _found(tx, now, extra).is_news or alerts.has_due(tx)


def look(services: Services, extra: Sequence[Trouble] = ()) -> Step:
    """Open, keep and end alerts by what is wrong now; `extra`: what is wrong with Dagster. Raises StoreError."""
    now = services.now()
    with services.database.transaction(Login.ALERT, None) as tx:
        alerts.lock(tx)
        found = _found(tx, now, extra)
        targets = alerts.targets(tx)

        def plan(trouble: Trouble | None) -> Plan:
            """None: whoever was told of the beginning."""
            owner = None if trouble is None else reason(trouble.reason).owner
            wanted = [each for each in targets if owner is None or owner in each.owners]
            times = {each.name: send_at(each.hours, now, is_urgent=owner in _URGENT) for each in wanted}
            return {name: (at, at > now) for name, at in times.items()}

        alerts.store(tx, found, plan, plan(None))
    return found


def where(services: Services, fingerprint: str) -> tuple[tuple[str, Trouble], ...]:
    """The tenants at which a cause is seen now, the worst first. Raises StoreError."""
    with services.database.transaction(Login.ALERT, None) as tx:
        found = alerts.troubles_of_tenants(tx, _wanted())
    of_tenant: dict[str, list[Trouble]] = {}
    for tenant, each in found:
        if each.fingerprint == fingerprint:
            of_tenant.setdefault(tenant, []).append(each)
    once = [(tenant, each) for tenant, troubles in of_tenant.items() for each in folded(troubles)]
    return tuple(sorted(once, key=lambda seen: (-seen[1].records, seen[0])))


def _found(tx: Transaction, now: datetime, extra: Sequence[Trouble]) -> Step:
    return step(alerts.open_alerts(tx), (*alerts.troubles(tx, _wanted()), *extra), now, CALM)


def send(services: Services, delivered: Deliver = deliver) -> Sent:
    """Send what is due, one by one until one does not get through, and what was held in one message a target.

    Raises StoreError.
    """
    with services.database.transaction(Login.ALERT, None) as tx:
        targets = alerts.targets(tx)
    told = Sent()
    for target in targets:
        for is_held, most in (*[(False, 1)] * _ONE_BY_ONE, (True, _TOGETHER)):
            with services.database.transaction(Login.ALERT, None) as tx:
                group = alerts.take(tx, target.name, is_held=is_held, most=most)
            if not group:
                continue
            why = _tried(services.vault, target, group, delivered)
            _note(services.database, group, why)
            if why is not None:
                told = replace(told, failed=told.failed + len(group))
                break
            told = replace(told, sent=told.sent + len(group))
    return told


def address_of(vault: Vault, target: Target) -> str:
    """Raises VaultError."""
    return vault.decrypt(target.sealed, tenant=_OF_NOBODY, partner=target.name)["address"]


def sealed(vault: Vault, name: str, address: str) -> bytes:
    """The address of a target as it is kept."""
    return vault.encrypt({"address": address}, tenant=_OF_NOBODY, partner=name)


_OF_NOBODY = "alerts"


def _tried(vault: Vault, target: Target, group: Sequence[Notice], delivered: Deliver) -> str | None:
    """Why it failed; None: it got through."""
    try:
        is_through = delivered(address_of(vault, target), title_of(group), "\n\n".join(map(text_of, group)))
    except Exception as error:  # noqa: BLE001  # whatever a service does, the notice is tried again, and the others go
        _log.warning("a notice to %s: %s", target.name, place_of(error))
        return type(error).__name__
    return None if is_through else "not taken"


def _note(database: Database, group: Sequence[Notice], why: str | None) -> None:
    with database.transaction(Login.ALERT, None) as tx:
        if why is None:
            alerts.sent(tx, group)
        else:
            alerts.failed(tx, group, why)


def title_of(group: Sequence[Notice]) -> str:
    """Of a message."""
    if len(group) > 1:
        return f"zest: {len(group)} notices / お知らせ {len(group)}件"
    (notice,) = group
    word = {"opened": "ALERT / 障害", "recovered": "RECOVERED / 復旧"}[notice.kind]
    return f"zest {word}: {notice.partner or 'platform'} {notice.reason} ({notice.fingerprint})"


PLATFORM = (
    "edits_wait_too_long",
    "run_failed",
    "queue_stuck",
    "daemon_silent",
    "nobody_looks",
    "database_silent",
)
"""Reasons that alerts alone give; each has a section of its own in the runbook."""


_SECTIONS = {
    Owner.PARTNER: "alert-of-a-fault-of-the-partners",
    Owner.USER: "alert-of-what-a-tenants-people-have-to-do",
}


def section_of(code: str) -> str:
    """The anchor of the runbook's section about alerts of that reason."""
    if code in PLATFORM:
        return f"alert-{code}"
    return _SECTIONS.get(reason(code).owner, "alert-of-a-fault-of-ours")


def text_of(notice: Notice) -> str:
    """What a notice says, in Japanese and English; opaque, and with the number by which a repeated one is known."""
    params = dict.fromkeys(IDENTIFYING, notice.detail) if notice.detail else {}
    lines = []
    owner = reason(notice.reason).owner
    for language in (Language.JAPANESE, Language.ENGLISH):
        message, action = sentences(notice.reason, params, notice.fingerprint, language)
        is_over = "復旧しました。" if language is Language.JAPANESE else "This is over."
        action = "" if owner in _URGENT else action  # it tells others to ask us: who reads this is asked
        lines.append(f"{message} {is_over if notice.kind == 'recovered' else action}".strip())
    first, last = (f"{each.astimezone(JAPAN):%Y-%m-%d %H:%M}" for each in (notice.first_at, notice.seen_at))
    lines.append(
        f"{notice.partner or 'platform'}, {notice.reason}{f' ({notice.detail})' if notice.detail else ''}: "
        f"records {notice.records}, tenants {notice.tenants}, {first} - {last} JST, fingerprint {notice.fingerprint}"
    )
    if owner is Owner.UNKNOWN and notice.kind == "opened":
        lines.append(f"zest errors list; zest errors classify {notice.fingerprint} CODE")
    lines.append(f"docs/runbook.md#{section_of(notice.reason)} - Notice {notice.notice_id}")
    return "\n".join(lines)


@cache
def _wanted() -> Wanted:
    wrong = [each for each in all_reasons() if each.severity is not Severity.INFORMATION]

    def owned(owner: Owner) -> list[str]:
        return [each.code for each in wrong if each.owner is owner]

    ours = [each.code for each in wrong if each.owner is Owner.US and not each.retried]
    return Wanted([*owned(Owner.UNKNOWN), *ours], owned(Owner.PARTNER), owned(Owner.USER), reason="edits_wait_too_long")
