"""What runs on one machine: its data directory, its PostgreSQL server, its processes."""
