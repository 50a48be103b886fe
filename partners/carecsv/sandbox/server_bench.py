"""What the certification needs of care CSV by SFTP: the same folder on a server, and what befalls the line to it."""

from __future__ import annotations

from partners.carecsv.sandbox.bench import CareCsvBench
from partners.carecsv.sandbox.office import CareOffice
from partners.carecsv.sandbox.sftp_server import PASSWORD, USER, SftpServer
from partners.certification.bench import LineFault


class CareCsvServerBench(CareCsvBench):
    """An office that exchanges files over a server."""

    secret = {"user": USER, "password": PASSWORD}  # noqa: RUF012  # nobody changes it
    wrong_secret = {"user": USER, "password": "another"}  # noqa: RUF012  # the same

    def __init__(self, office: CareOffice, server: SftpServer) -> None:
        super().__init__(office)
        self._server = server
        self.url = f"sftp://127.0.0.1:{server.port}"
        self.heal()

    @property
    def nobody(self) -> str:
        """As Bench."""
        return "sftp://127.0.0.1:1"

    def shown(self) -> int:
        """As Bench."""
        return self._server.logins

    def befall(self, fault: LineFault) -> None:
        """As Bench."""
        self._server.fault = fault
        if fault is LineFault.ANOTHER_SERVER:
            self.settings = {**self.settings, "host_key": self._server.others_key}

    def heal(self) -> None:
        """As Bench."""
        self._server.fault = None
        self.settings = {**CareCsvBench.settings, "host_key": self._server.host_key}
