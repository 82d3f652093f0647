"""Runs attempts: claims, slots, timers, answers. Knows no broker."""
