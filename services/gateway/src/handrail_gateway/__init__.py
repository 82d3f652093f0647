"""The HTTP door: start, state, inbox, resume."""
