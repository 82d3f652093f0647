"""Plans, decides, journals, publishes, wakes, dead-letters, compensates."""
