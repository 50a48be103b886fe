"""A person who has the board and nothing else: reads what it says, does that and no more, and sees whether it turns ok.

A scene declares the places where its person goes, in their order. It can go to no other, wait only where the message
says that it goes by itself, and a check holds the places of all scenes of a code against those that its action names.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import pytest
from board_bench import caller, serving, token_of
from conftest import Said, Tenant
from flow_bench import accumulate_all, forget_backoff, forget_hold

from partners.contract import Partner
from partners.reasons import Language, Reason, reason
from resources.logins import Login
from resources.vault import Vault
from zest_pipelines.flows.apply import apply
from zest_pipelines.flows.diff import diff
from zest_pipelines.flows.land import land
from zest_pipelines.flows.planned import take_plans
from zest_pipelines.flows.push import push
from zest_pipelines.flows.reports import PlanReport
from zest_pipelines.flows.services import Services
from zest_pipelines.store import due, tenants

TENANT = "sakura"

PLACES: Mapping[str, str] = {
    "Connection settings": "連携設定",
    "Credential": "認証情報",
    "Address": "接続先",
    "scopes": "scopes",
    "host_key": "host_key",
    "care_manager": "care_manager",
    "patient_numbers": "patient_numbers",
    "doctors": "doctors",
    "default_doctor": "default_doctor",
    "Resume": "再開",
    "Permissions": "権限",
    "IP restrictions": "IPアドレス制限",
    "Plan": "契約プラン",
    "API settings": "API設定",
    "System administration": "システム管理",
    "Properties": "プロパティ",
    "Care plan data exchange": "ケアプランデータ連携",
    "Delivery results": "反映結果",
    "Send again": "再送",
    "Mark as delivered": "反映済みにする",
    "Visits": "予定",
    "Clients": "利用者",
    "Staff": "職員",
    "Appointments": "予約",
    "Acceptances": "受付一覧",
    "Patients": "患者登録",
    "Import results": "取込結果",
    "Confirm identity": "本人の確認",
    "Import changes": "取込差分",
    "Form": "入力欄",
    "{field}": "{field}",
}
"""What a place is called in either language: both texts of a reason name the same ones."""

BY_ITSELF = re.compile(r"\bby (it|them)sel(f|ves)\b|\bnext import\b")
_QUOTED = {Language.ENGLISH: re.compile(r'"(.+?)"'), Language.JAPANESE: re.compile(r"「(.+?)」")}


SceneRun = Callable[..., Any]
"""Brings a reason about and mends it; returns its Person. Its parameters name the fixtures that it wants."""


@dataclass(frozen=True)
class Scene:
    """How a reason comes about, and one way to mend it by its message."""

    code: str
    places: tuple[str, ...]
    """Where the person goes, as the English action calls it, in the order of the going."""
    run: SceneRun

    @property
    def name(self) -> str:
        return f"{self.code}-{self.run.__name__}"


SCENES: list[Scene] = []


def fixes(code: str, *places: str) -> Callable[[SceneRun], SceneRun]:
    """Registers a scene."""

    def note(run: SceneRun) -> SceneRun:
        SCENES.append(Scene(code, places, run))
        return run

    return note


def places_named(told: Reason, language: Language = Language.ENGLISH) -> tuple[str, ...]:
    """The places that the action sends a person to."""
    return tuple(dict.fromkeys(_QUOTED[language].findall(told.texts(language)[1])))


@dataclass
class Person:
    """Somebody of the tenant, with the product, its connection settings, the partner's screens, and the board."""

    zest: Said
    services: Services
    folder: Path
    board: httpx.Client
    partner: Partner
    url: str = ""
    secret: Mapping[str, str] | None = None
    settings: dict[str, str] = field(default_factory=dict)
    options: Sequence[str] = ()
    """More of what `zest connect` is given each time."""
    went: list[str] = field(default_factory=list)
    is_connected: bool = False
    action: str = ""
    """What the message that was read last says is to be done; empty: none was read yet."""

    @property
    def tenant(self) -> Tenant:
        return Tenant(TENANT, self.services, self.partner, None)  # type: ignore[arg-type]  # nobody asks for it here

    # --- What the platform does ---------------------------------------------------------------------------------------

    def minute(self) -> None:
        """What a minute of the platform does for the tenant: what is due, and no more."""
        with self.services.database.transaction(Login.SCHEDULE, None) as tx:
            is_read = TENANT in due.inbound(tx, self.partner.name, self.partner.readings)
        for entity in self.partner.reads:
            if is_read:
                land(self.services, self.partner, TENANT, entity)
                diff(self.services, self.partner, TENANT, entity)
        with self.services.database.transaction(Login.SCHEDULE, None) as tx:
            is_changed = TENANT in due.open_master_changes(tx, self.partner.name)
        for entity in self.partner.reads:
            if is_changed:
                apply(self.services, self.partner, TENANT, entity)
        if not self.partner.writes:
            return
        with self.services.database.transaction(Login.SCHEDULE, None) as tx:
            due.recheck_waiting(tx, self.partner.name)
            is_sent = TENANT in due.outbound(tx, self.partner.name, self.partner.mapping_version)
        if is_sent:
            accumulate_all(self.tenant)
            push(self.services, self.partner, TENANT)

    def day(self) -> None:
        """What a day does, of which all backoffs and holds are over at its end."""
        forget_hold(self.tenant)
        forget_backoff(self.tenant)
        for column in ("started_at", "finished_at"):
            self.tenant.sql(f"UPDATE sync.snapshot SET {column} = {column} - interval '2 days'", Login.LAND)
        self.minute()
        self.minute()  # what came in lets go out what waited for it

    def plans(self) -> PlanReport:
        """The comparison with others' plans, as the next import's run makes it."""
        assert not self.action or BY_ITSELF.search(self.action), self.action
        return take_plans(self.services, self.partner, TENANT)

    # --- What the person sees -----------------------------------------------------------------------------------------

    def reads(self, code: str, record: UUID | None = None) -> Mapping[str, str]:
        """The board must show this reason; what it says is taken note of. Returns message and action in English.

        `record`: it is looked for at that visit, as a person does who goes there from the group.
        """
        told = {language: self._told(code, language, record) for language in Language}
        self.hears(code, {language: (each["message"], each["next_action"]) for language, each in told.items()})
        return told[Language.ENGLISH]

    def hears(self, code: str, told: Mapping[Language, tuple[str, str]]) -> None:
        """The message came otherwise than by the board."""
        self.action = told[Language.ENGLISH][1]
        for language, (message, action) in told.items():
            assert "unknown" not in action or "unknown" in reason(code).texts(language)[1], action
            assert "不明" not in message + action, message + action
            assert "{" not in message + action

    def shown(self, language: Language = Language.ENGLISH) -> list[dict[str, Any]]:
        """All that the board's first page has to say: of connections and of groups of records."""
        told = self._board(f"/api/overview?lang={language.value}")
        return [each for each in (*told["connections"], *told["records"]) if each["badge"] != "ok"]

    def opens(self, entity: str, code: str) -> list[dict[str, Any]]:
        """The records of a group, each with what is to be done about it."""
        group = f"partner={self.partner.name}&entity={entity}&badge=action_needed&reason={code}"
        found: list[dict[str, Any]] = self._board(f"/api/records?{group}&lang=en")["records"]
        return found

    def sees_ok(self, *records: UUID, warning: str | None = None) -> None:
        """Nothing is left on the board, and these visits are there; `warning`: with this remark."""
        left = [(each["badge"], each["reason"]) for each in self.shown()]
        assert left == ([] if warning is None else [("delivered_with_warning", warning)]), f"left is {left}"
        badges = {self._board(f"/api/records/visit/{each}")["badge"] for each in records}
        assert badges <= {"ok" if warning is None else "delivered_with_warning"}, badges

    def sees_waiting(self) -> None:
        """Nothing is left on the board but what waits for its turn."""
        left = {(each["badge"], each["reason"]) for each in self.shown()}
        assert left <= {("waiting", None)}, f"left is {left}"

    def _told(self, code: str, language: Language, record: UUID | None) -> dict[str, Any]:
        shown: Sequence[dict[str, Any]] = self.shown(language)
        if record is not None:
            shown = self._board(f"/api/records/visit/{record}?lang={language.value}")["partners"]
        found = [each for each in shown if each["reason"] == code]
        assert found, f"{code} is not shown, but {[each['reason'] for each in shown]}"
        return found[0]

    def _board(self, address: str) -> Any:
        answer = self.board.get(address)
        assert answer.status_code == 200, answer.text
        return answer.json()

    # --- What the person does -----------------------------------------------------------------------------------------

    def goes(self, *places: str) -> None:
        """To a place that the message names: what is done there is the scene's."""
        if not self.action:
            return  # nothing is to be mended yet
        named = _QUOTED[Language.ENGLISH].findall(self.action)
        assert set(places) <= set(named), f"nothing sends a person to {places}: {self.action}"
        self.went += [each for each in places if each not in self.went]

    def goes_to_field(self, name: str) -> None:
        """To the field that the message names."""
        assert f'"{name}"' in self.action
        self.went += [] if "{field}" in self.went else ["{field}"]

    def waits(self) -> None:
        """As the message says one may."""
        assert BY_ITSELF.search(self.action), f"nothing says that it goes by itself: {self.action}"
        self.day()

    def connects(self, *places: str, **changes: Any) -> None:
        """`zest connect` with what has changed: url, secret and settings (none: taken out)."""
        self.goes(*places)
        kept = None if self.is_connected else self.secret
        self.url, self.secret = changes.pop("url", self.url), changes.pop("secret", kept)
        self.settings = {key: value for key, value in (self.settings | changes).items() if value is not None}
        options = [*self.options]
        options += ["--timing", "minute", "--limit", "tenant:60000/60s"] if self.partner.writes else []
        options += [part for pair in self.settings.items() for part in ("--set", "=".join(pair))]
        if self.secret is not None:
            (self.folder / "secret.json").write_text(json.dumps(dict(self.secret)))
            options += ["--secret-file", str(self.folder / "secret.json")]
        self.types("connect", TENANT, self.partner.name, "--base-url", self.url, *options)
        self.is_connected = True

    def sends_again(self) -> None:
        """Presses the button."""
        self.goes("Delivery results", "Send again")
        self.types("release", TENANT, self.partner.name, "--yes")
        self.minute()

    def marks_as_delivered(self, visit: UUID, partner_id: str, kind: str = "visit") -> None:
        """Presses the other one."""
        self.goes("Delivery results", "Mark as delivered")
        why = ("--reason", "it is on their screen")
        self.types("adopt", TENANT, self.partner.name, kind, str(visit), "--partner-id", partner_id, *why)
        self.minute()

    def edits(self, visit: UUID, **columns: Any) -> None:
        """Corrects a visit in the product and saves."""
        self.goes("Visits")
        self.tenant.edit_visit(visit, **columns)

    def types(self, *words: str) -> str:
        """A command, which must do well. What it prints."""
        code, output, told = self.zest(*words)
        assert code == 0, (words, output, told)
        return output

    # --- What is stored without being looked at -----------------------------------------------------------------------

    def has_stored(self, secret: Mapping[str, str] | None = None, settings: Mapping[str, str] | None = None) -> None:
        """What no command would take any more, but was good once or comes from elsewhere."""
        if secret is not None:
            sealed = self.services.vault.encrypt(secret, tenant=TENANT, partner=self.partner.name)
            self.tenant.sql(
                "UPDATE sync.credential SET ciphertext = :sealed, changed_at = now()", Login.OPERATOR, sealed=sealed
            )
        if settings is not None:
            self.tenant.sql(
                "UPDATE sync.connection SET settings = CAST(:given AS jsonb), changed_at = now()",
                Login.OPERATOR,
                given=json.dumps(settings),
            )


@pytest.fixture
def services(services: Services, tmp_path: Path) -> Services:
    """The same, with a vault that commands open too."""
    Vault.create_file(tmp_path / "vault.key")
    return replace(services, vault=Vault.from_file(tmp_path / "vault.key"), random=lambda: 0.0)


@pytest.fixture
def new_person(services: Services, zest: Said, tmp_path: Path) -> Iterator[Callable[..., Person]]:
    """Somebody of a new tenant, which is connected to nobody yet."""
    with ExitStack() as closing:

        def add(partner: Partner, url: str, secret: Mapping[str, str] | None = None, **settings: str) -> Person:
            board = closing.enter_context(serving(services.database))
            with services.database.transaction(Login.OPERATOR, TENANT) as tx:
                tenants.add(tx, TENANT, "A corporation")
            client = closing.enter_context(caller(board, token_of(services.database, TENANT)))
            return Person(zest, services, tmp_path, client, partner, url, secret, settings)

        yield add
