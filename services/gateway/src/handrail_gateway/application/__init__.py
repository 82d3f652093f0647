"""Use cases of the gateway: one file each. They speak to ports; HTTP, SQL and Kafka are elsewhere."""
