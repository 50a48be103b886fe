"""An ORCA that plays a clinic's receipt computer, for demos and tests: its answers by the documents, with a memory, a
log and a temper. It is written from the same documents as the connector, so it is no independent evidence of what a
real one does, and not for patient data.
"""

from partners.orca.sandbox.answers import Rules
from partners.orca.sandbox.server import Fault, FaultKind, OrcaConfig, OrcaServer, run
from partners.serving import PortInUseError

__all__ = ["Fault", "FaultKind", "OrcaConfig", "OrcaServer", "PortInUseError", "Rules", "run"]
