"""The tables of Handrail on PostgreSQL."""
