"""Floor 3: peer sessions, dial scheduler, admission limits."""
