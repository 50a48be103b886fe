"""`zest bundle`: a support case as one file that may be sent to whoever helps."""

from __future__ import annotations

import json
import os
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated
from uuid import UUID

import typer

from partners.contract import Entity
from resources.logins import Login
from zest_pipelines.cli.options import DataDirOption, InputError, TenantArgument, chosen_data_dir, tell
from zest_pipelines.core.identifiers import check_tenant_id


def bundle(
    tenant: TenantArgument,
    about: Annotated[
        str,
        typer.Argument(
            metavar="REFERENCE",
            help="The number that a message names, or a record's id (visit_id).",
            show_default=False,
        ),
    ],
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A new file. Default: zest-bundle-TENANT-REFERENCE.json.")
    ] = None,
    data_dir: DataDirOption = None,
) -> None:
    """Write a support case about a record or a connection: its life, its calls masked, its connections, versions.

    No patient data and no secret is in it. Noted in the audit log.
    """
    from zest_pipelines.board.bundle import bundle as made_of
    from zest_pipelines.cli.session import open_session
    from zest_pipelines.store import tenants
    from zest_pipelines.store.errors import UnknownRecordError

    check_tenant_id(tenant)
    named = checked_about(about)
    path = out or Path(f"zest-bundle-{tenant}-{named}.json")
    if path.exists():
        raise InputError(f"{path} is there already: name another file with --out, or remove it")
    with open_session(chosen_data_dir(data_dir)) as session, session.transaction(Login.OPERATOR, tenant) as tx:
        tenants.get(tx, tenant)
        told = made_of(tx, tenant, named, datetime.now(UTC))
        if told is None and isinstance(named, UUID):
            raise UnknownRecordError(tenant, Entity.VISIT, named)
        if told is None:
            raise InputError(
                f"There is nothing with the number {named} at {tenant}: compare it, and the tenant, with the message"
            )
        tenants.audit(tx, tenant, "bundle", str(named), {})
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            json.dump(told, file, ensure_ascii=False, indent=2)
    tell(f"{path} holds the case, without patient data and without secrets: send it to support")


def checked_about(text: str) -> UUID | str:
    """A record's id, or a number as it is read out: in any case, with spaces or dashes. InputError if it is neither."""
    from zest_pipelines.core.reference import ALPHABET, LENGTH

    try:
        return UUID(text)
    except ValueError:
        number = re.sub(r"[\s-]", "", text).upper()
    if len(number) != LENGTH or set(number) - set(ALPHABET):
        raise InputError(
            f"This is neither a record's id nor a number of {LENGTH} letters and digits, as messages name it"
        )
    return number
