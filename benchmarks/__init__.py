"""Measurements: pyrelay next to geth in the same run, its profile, microbenchmarks."""
