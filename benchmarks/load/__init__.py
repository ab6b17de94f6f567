"""The load: peers in processes of their own that send transactions through a relay and receive them."""
