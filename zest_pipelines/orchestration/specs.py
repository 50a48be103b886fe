"""Keys and descriptions of a partner's assets: what each holds, who writes it, and what to do when it is red."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dagster import AssetDep, AssetKey, AssetSpec

from partners.contract import Entity, Partner
from zest_pipelines.orchestration.partitions import of_tenant

_OWNERS = ("team:integrations",)
_PLURALS = {Entity.CLIENT: "clients", Entity.STAFF: "staff", Entity.PLAN: "plans"}


def landed(partner: Partner, entity: Entity) -> AssetKey:
    """What the partner was last seen to have."""
    return AssetKey([partner.name, f"landed_{_PLURALS[entity]}"])


def changes(partner: Partner, entity: Entity) -> AssetKey:
    """What differs between landed and applied."""
    return AssetKey([partner.name, f"{entity.value}_changes"])


def applied(partner: Partner, entity: Entity) -> AssetKey:
    """What the product has taken over."""
    return AssetKey([partner.name, f"applied_{_PLURALS[entity]}"])


def visit_changes(partner: Partner) -> AssetKey:
    """What the partner has to be told."""
    return AssetKey([partner.name, "visit_changes"])


def pushed_visits(partner: Partner) -> AssetKey:
    """What the partner has been told."""
    return AssetKey([partner.name, "pushed_visits"])


def pushed_weeks(partner: Partner) -> AssetKey:
    """What the partner has been told of one week, because a person asked for it."""
    return AssetKey([partner.name, "pushed_weeks"])


def reconciled_weeks(partner: Partner) -> AssetKey:
    """What the partner shows of one week when it is read back."""
    return AssetKey([partner.name, "reconciled_weeks"])


def inbound_specs(partner: Partner, entity: Entity) -> Iterable[AssetSpec]:
    """The three assets of one master entity, in the order in which they are made."""
    what = _PLURALS[entity]
    yield _spec(
        partner,
        landed(partner, entity),
        entity,
        f"The {what} that the partner ({partner.title}) has, as last read. Written by the landing alone; a row only "
        "where something differs. Red: the reading broke off or was incomplete; the check says why and what to do.",
        kinds=("http", "postgres"),
        code_version=partner.mapping_version,
    )
    yield _spec(
        partner,
        changes(partner, entity),
        entity,
        f"Differences (取込差分) between the {what} landed and applied. Written by the diff alone. Red: "
        "the diff could not be made; see the run.",
        deps=[landed(partner, entity)],
    )
    yield _spec(
        partner,
        applied(partner, entity),
        entity,
        f"The {what} taken over into ZEST SCHEDULE, and one result (取込結果) for each difference. "
        "Written by the apply alone. Red: records were rejected or left behind; the check says what to do.",
        deps=[changes(partner, entity)],
        code_version=partner.mapping_version,
    )


def plan_spec(partner: Partner) -> AssetSpec:
    """What somebody else has planned."""
    return _spec(
        partner,
        landed(partner, Entity.PLAN),
        Entity.PLAN,
        f"What others have planned for our clients, as {partner.title} last said it, month by month, compared with the "
        "confirmed visits. Nothing of it is applied or sent. Written by the landing alone. Red: the reading broke off; "
        "yellow: lines could not be taken, or plan and visits differ; the checks say which and what to do.",
        kinds=("http", "postgres"),
        code_version=partner.mapping_version,
    )


def outbound_specs(partner: Partner) -> list[AssetSpec]:
    """The two assets of the way out; visits need the identities that applied masters have."""
    return [
        _spec(
            partner,
            visit_changes(partner),
            Entity.VISIT,
            f"Versions of visits and visit records that the partner ({partner.title}) has to receive (反映履歴). "
            "Written by the accumulation alone. Red: edits could not be turned into changes; see the run.",
            deps=[applied(partner, entity) for entity in partner.masters],
        ),
        _spec(
            partner,
            pushed_visits(partner),
            Entity.VISIT,
            f"What became of each change at {partner.title} (送信意図, 反映結果). Written by the push alone, which the "
            "clock starts; to push one week now, materialize pushed_weeks. Red: the checks say what waits, since when, "
            "and what to do.",
            deps=[visit_changes(partner)],
            kinds=("http", "postgres"),
            code_version=partner.mapping_version,
        ),
    ]


def push_week_spec(partner: Partner) -> AssetSpec:
    """A week pushed on request. It needs the changes alone: the minute's push reads them beside it, not before it.

    If `pushed_visits` came before it, whoever asks for a week with all that is upstream would push everything first.
    """
    return _spec(
        partner,
        pushed_weeks(partner),
        Entity.VISIT,
        f"One week of visits and their records, sent to {partner.title} because a person asked for it (連携). Choose a "
        "tenant and a week (its Monday), and materialize: the run asks for the week, waits until the partner has it, "
        "whoever sends it, and says how many records were delivered, unchanged, waiting or refused. Launching it again "
        "changes nothing at the partner. Green with a warning: some records wait and go by themselves later; the "
        "request stays. Written by the push alone. Red: a person has to act; the check says what to do. Not "
        'for "Single run": one run takes one week of one tenant.',
        deps=[AssetDep(visit_changes(partner), partition_mapping=of_tenant())],
        kinds=("http", "postgres"),
        code_version=partner.mapping_version,
        skippable=False,
    )


def read_back_spec(partner: Partner) -> AssetSpec:
    """A week read back."""
    return _spec(
        partner,
        reconciled_weeks(partner),
        Entity.VISIT,
        f"One week of what was pushed, read back from {partner.title} and compared field by field (照合). Reads "
        "only; launched together with pushed_weeks it runs once the week is there. Written by nobody: the comparison "
        f"stands in the metadata. It looks at what we sent and at nothing else: a record that somebody else entered at "
        f"{partner.title} is not seen, nor a second copy of ours while the first one is there. Red: {partner.title} "
        "shows something else; the check names records and fields, and says what to do.",
        deps=[pushed_weeks(partner)],
        kinds=("http", "postgres"),
        code_version=partner.mapping_version,
        skippable=False,
    )


def _spec(
    partner: Partner,
    key: AssetKey,
    entity: Entity,
    description: str,
    *,
    deps: Iterable[AssetKey | AssetDep] = (),
    kinds: Collection[str] = ("postgres",),
    code_version: str | None = None,
    skippable: bool = True,
) -> AssetSpec:
    return AssetSpec(
        key,
        deps=deps,
        description=description,
        skippable=skippable,
        group_name=partner.name,
        owners=_OWNERS,
        kinds=set(kinds),
        tags={"zest/partner": partner.name, "zest/entity": entity.value},
        code_version=code_version,
    )
