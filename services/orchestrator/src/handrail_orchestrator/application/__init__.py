"""What an orchestrator does, by use case. Ports in, no SQL, no Kafka."""
