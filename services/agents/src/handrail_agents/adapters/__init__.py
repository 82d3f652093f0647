"""PostgreSQL: the effect ledger, the registry, the clock."""
