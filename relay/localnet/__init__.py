"""Floor 6: a private Tor network and N relays on this machine, for trying and testing."""
