"""Floor 3: where candidates come from: static-nodes.json and its watcher."""
