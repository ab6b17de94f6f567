"""Private broadcast: transactions of our own users go out on short connections that lead nowhere."""
