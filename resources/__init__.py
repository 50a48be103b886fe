"""What the platform reaches outside for: the database, the partner over HTTP, secrets. Configuration only; nothing connects at import."""
