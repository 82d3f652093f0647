"""The live view, measured: see `python -m benchmarks.sse.run --help`."""
