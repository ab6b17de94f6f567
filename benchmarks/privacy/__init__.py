"""Whose a transaction is, as a spy with many relays guesses it.

What decides who is told when are the relay's own classes: `relay.relaying.trickle`, `.dandelion` and
`.private.broadcast`. Links, latencies and the way of a message are modelled here; a test
compares the model with real relays.
"""
