"""How the world reaches the notifier: records from the bus, clients over HTTP."""
