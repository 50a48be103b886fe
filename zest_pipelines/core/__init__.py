"""The rules, pure: values in, values out. No clock, no randomness, no I/O, no framework."""
