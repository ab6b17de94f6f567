"""Chain data for peers that ask: from a bounded cache, or from other peers and then checked."""
