"""Relays on Kubernetes: their identity before Tor starts, an address book by server-side apply, discovery.

Programs beside the daemon, in containers of their own. They talk to the API server and, where asked to, to
the daemon's socket and to Tor; the daemon never loads this room.
"""
