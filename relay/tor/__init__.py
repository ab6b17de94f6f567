"""Floor 2: Tor control connection, onion service lifecycle, Tor process."""
