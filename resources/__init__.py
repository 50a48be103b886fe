"""What the platform reaches outside for: database logins, partners over HTTP, secrets.

Configuration only: nothing connects at import.
"""
