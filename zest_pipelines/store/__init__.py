"""All SQL, and nothing else: each module holds the named queries of a few tables beside the typed calls that run them.

A call takes an open transaction and returns frozen values; who opens it, under which login and for which tenant, is the
flows' business. No rule about what should happen lives here.
"""
