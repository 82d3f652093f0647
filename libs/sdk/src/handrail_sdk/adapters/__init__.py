"""`escalate_to_human` as a tool of published agent frameworks; each module needs its framework, none is imported by another."""
