"""Pure RLPx: ECIES handshake (EIP-8) and framing."""
