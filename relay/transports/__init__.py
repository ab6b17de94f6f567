"""Floor 2: sockets, TCP, SOCKS5, the policy of which network a peer is dialed by."""
