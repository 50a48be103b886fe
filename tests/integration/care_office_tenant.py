"""A tenant that reads the folder of a made-up care office."""

from __future__ import annotations

from datetime import timedelta

from conftest import Tenant

from partners.carecsv.partner import CARECSV
from partners.carecsv.sandbox.office import RECEIVER, CareOffice
from partners.contract import Connection
from resources.logins import Login
from zest_pipelines.flows.services import Services
from zest_pipelines.store import tenants


def connect(services: Services, office: CareOffice, name: str = "sakura") -> Tenant:
    """Add the tenant and connect it to the office; nothing is read yet."""
    with services.database.transaction(Login.OPERATOR, name) as tx:
        tenants.add(tx, name, f"Tenant {name}")
        tenants.connect(
            tx,
            Connection(name, CARECSV.name, office.base.as_uri(), {"office": RECEIVER, "kind": "13"}),
            timing="minute",
            limits=None,
            land_every=timedelta(hours=1),
            ciphertext=None,
            reads=CARECSV.reads,
        )
    return Tenant(name, services, CARECSV, None)  # type: ignore[arg-type]  # nothing here asks for its sandbox
