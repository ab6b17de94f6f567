"""Floor 5: metrics page, health and readiness, logging set-up."""
