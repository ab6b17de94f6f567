"""Networks of thousands of nodes in one process, under a virtual clock: `python -m benchmarks.simulation`.

The nodes are the daemon's own classes: `Discv5` and what stands on it. What is simulated is the way between
them (`internet`, `tor`), the clock (`network`), and that nodes come and go (`population`).
"""
