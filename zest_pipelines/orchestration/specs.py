"""Keys and descriptions of a partner's assets: what each holds, who writes it, and what to do when it is red."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from dagster import AssetKey, AssetSpec

from partners.contract import MASTERS, Entity, Partner

_OWNERS = ("team:integrations",)
_PLURALS = {Entity.CLIENT: "clients", Entity.STAFF: "staff"}


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


def masters(partner: Partner) -> tuple[Entity, ...]:
    """The master entities that the partner is read for, in the order in which they are read."""
    return tuple(entity for entity in MASTERS if entity in partner.reads)


def inbound_specs(partner: Partner, entity: Entity) -> Iterable[AssetSpec]:
    """The three assets of one master entity, in the order in which they are made."""
    what = _PLURALS[entity]
    yield _spec(
        partner,
        landed(partner, entity),
        entity,
        f"The {what} that {partner.title} has, as last read. Written by the landing alone; a row only where "
        "something differs. Red: the reading broke off or was incomplete; the check says why and what to do.",
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


def outbound_specs(partner: Partner) -> list[AssetSpec]:
    """The two assets of the way out; visits need the identities that applied masters have."""
    return [
        _spec(
            partner,
            visit_changes(partner),
            Entity.VISIT,
            f"Versions of visits and visit records that {partner.title} has to receive (反映履歴). "
            "Written by the accumulation alone. Red: edits could not be turned into changes; see the run.",
            deps=[applied(partner, entity) for entity in masters(partner)],
        ),
        _spec(
            partner,
            pushed_visits(partner),
            Entity.VISIT,
            f"What became of each change at {partner.title} (送信意図, 反映結果). Written by the push alone. "
            "Red: the checks say what waits, since when, and what to do.",
            deps=[visit_changes(partner)],
            kinds=("http", "postgres"),
            code_version=partner.mapping_version,
        ),
    ]


def _spec(
    partner: Partner,
    key: AssetKey,
    entity: Entity,
    description: str,
    *,
    deps: Iterable[AssetKey] = (),
    kinds: Collection[str] = ("postgres",),
    code_version: str | None = None,
) -> AssetSpec:
    return AssetSpec(
        key,
        deps=deps,
        description=description,
        skippable=True,
        group_name=partner.name,
        owners=_OWNERS,
        kinds=set(kinds),
        tags={"zest/partner": partner.name, "zest/entity": entity.value},
        code_version=code_version,
    )
