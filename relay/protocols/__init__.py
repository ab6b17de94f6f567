"""Floor 1, pure: bytes in, events and bytes out."""
