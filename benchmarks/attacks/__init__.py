"""Simulated attacks on the real classes, under a virtual clock: `python -m benchmarks.attacks`.

The figures are those of docs/privacy.md; `benchmarks/results/attacks.json` holds the run they come from.
"""
