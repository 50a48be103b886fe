"""Partner systems: one folder a partner, and what they share."""
