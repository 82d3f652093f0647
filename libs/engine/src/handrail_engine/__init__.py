"""The rules of Handrail: pure decide, evolve and outgoing."""
