"""A SmartHR that plays a corporation's HR system, for demos and tests: its list of crews by the documents, with limits,
a log and a temper. It is written from the same documents as the connector, so it is no independent evidence of what the
real one does, and not for data of real people.
"""

from partners.serving import PortInUseError
from partners.smarthr.sandbox.crews import made_up
from partners.smarthr.sandbox.server import Fault, FaultKind, SmartHrConfig, SmartHrServer, run

__all__ = ["Fault", "FaultKind", "PortInUseError", "SmartHrConfig", "SmartHrServer", "made_up", "run"]
