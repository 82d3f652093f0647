"""The real orchestrator and the real agents service on a simulated clock, bus and store, by seed: one thread, no IO."""
