"""The `inferplane` command: a file a command. Nothing heavy is imported before a command runs."""
