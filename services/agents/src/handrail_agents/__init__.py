"""Runs tasks and compensations, heartbeats, answers; holds the effect ledger."""
