"""Doors into the gateway."""
