"""The `headrace` command: one module per group of sub-commands."""
