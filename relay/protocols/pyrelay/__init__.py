"""Pure codec of `pyrelay/1`, by which relays know each other and ask each other for chain data."""
