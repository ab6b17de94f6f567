"""Floor 6: the composition root, the only place that builds objects and joins them."""
