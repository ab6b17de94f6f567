"""Node lists in DNS (EIP-1459), as a pure core: names to ask out, texts in, records out."""
