"""Floor 5: JSON-RPC server and its eth, net, web3, admin, txpool and dht namespaces."""
