"""Floor 1, pure: networks, fork id, transaction decoding and stateless validity."""
