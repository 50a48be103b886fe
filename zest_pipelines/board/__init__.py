"""The board: what a tenant's people and support see of their records, and what to do, in Japanese and English."""
