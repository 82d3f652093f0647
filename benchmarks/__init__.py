"""Measurements: `python -m benchmarks.run --help`. Nothing here is asserted, everything is printed."""
