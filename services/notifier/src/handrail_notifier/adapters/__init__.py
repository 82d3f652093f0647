"""The engines behind the notifier's ports: PostgreSQL and Redis."""
