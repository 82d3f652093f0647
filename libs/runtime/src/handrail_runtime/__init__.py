"""The shell that every Handrail service shares: bus, lifecycle, settings, logs, health."""
