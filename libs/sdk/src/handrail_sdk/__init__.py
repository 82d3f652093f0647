"""For users of Handrail: write agents and workflows, start and watch them."""
