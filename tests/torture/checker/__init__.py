"""One checker for every history, whoever made it: the simulation, killed processes, engines taken away under load."""
