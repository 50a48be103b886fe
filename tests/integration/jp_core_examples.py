"""The example resources of JP Core, where they lie beside the project.

They have no licence file, so they are not part of the project: tests that need them are skipped without them.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from partners.fhir.sandbox.testing import RunningSandbox

EXAMPLES = Path(__file__).parents[3] / "shared" / "fixtures" / "fhir-jp"
NEEDS_EXAMPLES = pytest.mark.skipif(
    not EXAMPLES.is_dir(), reason="the JP Core examples (shared/fixtures/fhir-jp) are not beside the project"
)
SETTINGS = {
    "patient_identifier_system": "urn:oid:1.2.392.100495.20.3.51.11311234567",
    "staff_identifier_system": "http://www.acme.org/practitioners",
}


def put_examples(sandbox: RunningSandbox) -> None:
    """Give the partner the examples, as its own people would enter them."""
    for path in sorted(EXAMPLES.glob("*.json")):
        sandbox.put(json.loads(path.read_text(encoding="utf-8")))
