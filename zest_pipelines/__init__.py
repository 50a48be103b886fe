"""Keeps ZEST SCHEDULE and its partner systems equal, both ways."""
