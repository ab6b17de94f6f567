"""The status page of the daemon: one page that asks for nothing but itself, for the person who runs it."""
