"""The partner that speaks HL7 FHIR R4."""
