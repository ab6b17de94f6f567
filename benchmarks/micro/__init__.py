"""Microbenchmarks: how long one call of a hot function takes. Run as `python -m benchmarks.micro`."""
