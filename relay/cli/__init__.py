"""Floor 7: one module per subcommand; argv, exit codes and terminal output only."""
