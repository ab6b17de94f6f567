"""The peer monitor: watches the peers of any node with admin_peers or a Beacon API; a program of its own."""
