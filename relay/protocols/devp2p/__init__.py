"""Pure devp2p base protocol: Hello, Ping, Pong, Disconnect, capability negotiation."""
