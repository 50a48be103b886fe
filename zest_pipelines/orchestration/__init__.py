"""Dagster: what is shown, when it runs, and reports turned into events. The work is done by the flows."""
