"""The HTTP door: one file per group of routes, and what stands before all of them."""
