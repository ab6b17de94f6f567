"""eth-account, an independent signer, without a side effect of its import.

py_ecc, which it brings in, raises the interpreter's recursion limit to 100,000 for the whole process. Nested
JSON then overflows the C stack in other tests instead of raising RecursionError as it does in the daemon.
"""

import sys

_limit = sys.getrecursionlimit()
from eth_account import Account as Oracle  # noqa: E402

sys.setrecursionlimit(_limit)

__all__ = ["Oracle"]
