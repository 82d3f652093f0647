"""What the notifier does, without naming an engine: project events, keep rings of watched workflows, keep the inbox."""
