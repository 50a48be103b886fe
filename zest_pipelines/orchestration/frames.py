"""The way to an asset's rows: `load_asset_value`, or an input of somebody's own asset, gives a pandas DataFrame.

What our assets make are rows of the database, so there is nothing to store beside them. The IO manager reads the rows
of one partition as `zest_operator`, in a transaction that names the tenant, and refuses to keep a value: a pickle on a
disk would be a copy of patients' data that no row-level security guards.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any

from dagster import InitResourceContext, InputContext, IOManager, OutputContext, io_manager

from partners.contract import Entity
from resources.configurable import PostgresResource
from resources.logins import Login
from zest_pipelines.core.moments import MomentError, moment
from zest_pipelines.core.weeks import Days, week_from
from zest_pipelines.store import frames, tenants
from zest_pipelines.store.database import Database, Transaction
from zest_pipelines.store.keys import Target
from zest_pipelines.store.masters import Scope

if TYPE_CHECKING:
    import pandas as pd


class FrameError(Exception):
    """What was asked for is no frame of ours; the message names the next step."""


@dataclass(frozen=True)
class _Partition:
    """One partition of one of a partner's assets."""

    partner: str
    tenant: str
    days: Days | None
    """None: the asset is not partitioned by week."""

    @property
    def target(self) -> Target:
        return Target(self.tenant, self.partner)

    def scope(self, entity: Entity) -> Scope:
        return Scope(self.tenant, self.partner, entity)


_READERS: Mapping[str, Callable[[Transaction, _Partition], pd.DataFrame]] = {
    "landed_clients": lambda tx, asked: frames.landed(tx, asked.scope(Entity.CLIENT)),
    "landed_staff": lambda tx, asked: frames.landed(tx, asked.scope(Entity.STAFF)),
    "landed_plans": lambda tx, asked: frames.landed_plans(tx, asked.target),
    "client_changes": lambda tx, asked: frames.master_changes(tx, asked.scope(Entity.CLIENT)),
    "staff_changes": lambda tx, asked: frames.master_changes(tx, asked.scope(Entity.STAFF)),
    "applied_clients": lambda tx, asked: frames.applied(tx, asked.scope(Entity.CLIENT)),
    "applied_staff": lambda tx, asked: frames.applied(tx, asked.scope(Entity.STAFF)),
    "visit_changes": lambda tx, asked: frames.visit_changes(tx, asked.target),
    "pushed_visits": lambda tx, asked: frames.pushed_visits(tx, asked.target),
    "pushed_weeks": lambda tx, asked: frames.pushed_visits(tx, asked.target, asked.days),
    "reconciled_weeks": lambda tx, asked: frames.pushed_visits(tx, asked.target, asked.days),
}
"""By the last part of an asset's key, which is the same for every partner."""
_MASTERS = {"applied_clients": Entity.CLIENT, "applied_staff": Entity.STAFF}
"""Those of which a past moment can be asked for."""


class FrameManager(IOManager):
    """Reads each asset's partition from the database as a pandas DataFrame. Keeps nothing."""

    def __init__(self, postgres: PostgresResource) -> None:
        self._postgres = postgres

    def load_input(self, context: InputContext) -> pd.DataFrame:
        """The rows of the partition. Raises FrameError, StoreError, LoginsError, PrivateFileError."""
        path = context.asset_key.path
        if len(path) != 2 or path[1] not in _READERS:
            raise FrameError(
                f"{'/'.join(path)} holds no rows of ours: give it an IO manager of its own, io_manager_key"
            )
        _check_type(context)
        asked, at = _partition(context), _moment(context)
        database = Database(self._postgres.logins())
        try:
            with database.transaction(Login.OPERATOR, asked.tenant) as tx:
                tenants.connection(tx, asked.tenant, asked.partner)  # an empty frame would hide a slip of the pen
                return _READERS[path[1]](tx, asked) if at is None else _as_of(tx, path[1], asked, at)
        finally:
            database.close()

    def handle_output(self, context: OutputContext, obj: Any) -> None:
        """Refuse. Nothing of ours comes here: our outputs are Nothing."""
        whose = context.asset_key.to_user_string() if context.has_asset_key else f"{context.step_key}.{context.name}"
        raise FrameError(
            f"{whose} gave a value, and none is kept here: return nothing and write it to a store of your own, or name "
            "an IO manager of your own, io_manager_key"
        )


@io_manager(required_resource_keys={"postgres"}, description="Assets as pandas DataFrames, read from the database.")
def frame_manager(context: InitResourceContext) -> FrameManager:
    """The IO manager on the repository's own `postgres`: a nested resource would be configured twice."""
    return FrameManager(context.resources.postgres)


def _check_type(context: InputContext) -> None:
    import pandas as pd

    wanted = context.dagster_type.typing_type
    if wanted not in (Any, pd.DataFrame):
        name = context.asset_key.to_user_string()
        raise FrameError(f"{name} comes as a pandas DataFrame, not as {wanted}: ask for that, or for no type")


def _moment(context: InputContext) -> datetime | None:
    """The past moment that the input's metadata names (`at`); None: as it is now."""
    given = (context.definition_metadata or {}).get("at")
    if given is None or isinstance(given, datetime):
        if given is not None and given.tzinfo is None:
            raise FrameError(f"{given} is in no time zone: give `at` one, or write it as a text in Japan's time")
        return given
    try:
        return moment(str(given))
    except MomentError as error:
        raise FrameError(f"at: {error}") from None


def _as_of(tx: Transaction, name: str, asked: _Partition, at: datetime) -> pd.DataFrame:
    if name not in _MASTERS:
        raise FrameError(f"{name} is read as it is now: as of a past moment there are {' and '.join(_MASTERS)}")
    return frames.masters_as_of(tx, asked.scope(_MASTERS[name]), at)


def _partition(context: InputContext) -> _Partition:
    partner, name = context.asset_key.path
    keys = context.asset_partition_keys if context.has_asset_partitions else []
    if len(keys) != 1:
        raise FrameError(
            f"{partner}/{name} is read one partition at a time, not {len(keys)}: "
            f"name one, as in load_asset_value({[partner, name]}, partition_key=...)"
        )
    if context.has_partition_key:  # as it was asked for: Dagster takes a day that is no Monday for the week after it
        _check_monday(context.partition_key)
    tenant, _, week = keys[0].partition("|")
    return _Partition(partner, tenant, week_from(date.fromisoformat(week)) if week else None)


def _check_monday(key: str) -> None:
    _, _, week = key.partition("|")
    if week:
        try:
            week_from(date.fromisoformat(week))
        except ValueError as error:  # DaysError too
            raise FrameError(f"{key} is no key of a week, which is a tenant and a Monday: {error}") from None
