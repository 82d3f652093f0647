"""What the gateway's ports look like on PostgreSQL, Redis and the bus."""
