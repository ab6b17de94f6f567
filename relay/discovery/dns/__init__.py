"""Node lists in DNS (EIP-1459): resolvers, and what follows the lists. Imports nothing: dnspython is 3 MB."""
