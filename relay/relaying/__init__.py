"""Floor 4: what the daemon is for: transaction pool, gossip, fetcher, block range."""
