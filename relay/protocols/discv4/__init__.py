"""Node discovery v4 with EIP-868, as a pure core: packets in, events and packets out."""
