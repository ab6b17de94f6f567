"""Floor 0, pure: keys, hashes, RLP, node records, enode URLs, onion addresses, endpoints, errors."""
