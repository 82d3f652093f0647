"""The doors to PostgreSQL and the disk."""
