"""What leaves the machine, and what people answer there: a durable queue, and a courier for each channel that is configured."""
