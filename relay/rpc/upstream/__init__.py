"""Other nodes, asked for what a relay without a chain does not know: connections, failover, cache."""
